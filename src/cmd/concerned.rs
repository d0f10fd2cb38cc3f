//! Which files some damage of a session concerns: the session is served and mounted read-only, as `diff` does, and each
//! file asked where it lies.

use std::io::{PipeWriter, Write};
use std::path::Path;

use anyhow::bail;

use super::diff::devices::{self, Devices, Side};
use super::diff::look::own_place;
use super::diff::{End, look_until_seen};
use super::interrupts::Interrupts;
use crate::cli::diff::Diff;
use crate::media::merge::Damage;
use crate::media::replayed::{self, Seen};
use crate::trees::places::{Concerned, concerned};

/// File systems whose files say where they lie on the device. btrfs has addresses of its own.
const TELLING: [&str; 5] = ["ext2", "ext3", "ext4", "xfs", "f2fs"];

/// What an error is followed by; nothing if it is no damage.
pub(super) fn with_files(
    error: anyhow::Error,
    (cow, base): (&Path, &Path),
    session: Option<&str>,
) -> anyhow::Error {
    let Some(damage) = error.downcast_ref::<Damage>() else {
        return error;
    };
    let diff = Diff {
        cowfile: cow.to_owned(),
        base: base.to_owned(),
        session: session.map(str::to_owned),
        partition: None,
        json: false,
        tar: None,
    };
    match files(&diff, &damage.stretches) {
        Ok(files) if damage.is_all => anyhow::anyhow!("{error:#}; {files}"),
        Ok(files) => anyhow::anyhow!("{error:#}; of what was read so far: {files}"),
        Err(why) => anyhow::anyhow!("{error:#}; which files that concerns is not known: {why:#}"),
    }
}

fn files(diff: &Diff, stretches: &[(u64, u64)]) -> anyhow::Result<String> {
    super::require_root("mounting the session")?;
    let interrupts = Interrupts::listen()?;
    devices::load_driver()?;
    let mut devices = Devices::default();
    log::info!("looking which files that concerns");
    let looked = devices.serve_session(diff).and_then(|()| {
        let look = |devices: &Devices, to: &mut PipeWriter| look(devices, stretches, to);
        look_until_seen(&mut devices, &interrupts, &look)
    });
    let detached = devices.detach();
    match (looked, detached) {
        (Ok(files), Ok(())) => Ok(files),
        (Ok(files), Err(error)) => Ok(format!("{files}; {error:#}")),
        (Err(error), Err(other)) => bail!("{error:#}; {other:#}"),
        (Err(error), Ok(())) => Err(error),
    }
}

fn look(devices: &Devices, stretches: &[(u64, u64)], to: &mut PipeWriter) -> anyhow::Result<End> {
    let volume = devices.volume(Side::Session)?;
    if !TELLING.contains(&volume.kind) {
        bail!(
            "{} does not tell where on its device a file lies",
            volume.kind
        );
    }
    let target = own_place()?.join("session");
    match replayed::mount(&volume.device, volume.kind, &target, volume.is_read_only)? {
        Seen::Mounted => {}
        Seen::WantsReplay => return Ok(End::SessionWantsReplay),
    }
    to.write_all(words(&concerned(&target, stretches)).as_bytes())?;
    Ok(End::Done)
}

fn words(found: &Concerned) -> String {
    /// A pipe holds what its reader has not read yet, and no more than 64 KiB.
    const LONGEST: usize = 4000;
    let names = found.names.iter().map(|name| {
        let name = name.to_string_lossy().replace(char::is_control, "?");
        let end = name.floor_char_boundary(LONGEST);
        format!("'{}'", name.get(..end).unwrap_or_default())
    });
    let mut text = match found.names.is_empty() {
        true => "no file has anything there".to_owned(),
        false => format!("that concerns {}", names.collect::<Vec<_>>().join(", ")),
    };
    if found.more > 0 {
        text.push_str(&format!(" and {} more", found.more));
    }
    if found.is_part {
        text.push_str(", of those that could be looked at");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_bounded_and_harmless() {
        let found = Concerned {
            names: vec!["/a\nb".into(), "/c".into()],
            more: 3,
            is_part: true,
        };
        assert_eq!(
            words(&found),
            "that concerns '/a?b', '/c' and 3 more, of those that could be looked at"
        );
        assert_eq!(words(&Concerned::default()), "no file has anything there");
        let long = Concerned {
            names: vec!["é".repeat(4096).into(); 10],
            ..Concerned::default()
        };
        assert!(words(&long).len() < 60_000);
    }

    #[test]
    fn another_error_stays_as_it_is() {
        let error = anyhow::anyhow!("something else");
        let paths = (Path::new("/a"), Path::new("/b"));
        assert_eq!(
            format!("{:#}", with_files(error, paths, None)),
            "something else"
        );
    }
}
