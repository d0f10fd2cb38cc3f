//! The child's part: both file systems mounted where nobody else sees it, read, and told of.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::End;
use super::devices::{Devices, Side};
use super::outputs::Outputs;
use super::show::Show;
use crate::cli::diff::Diff;
use crate::media::replayed::{self, Seen};
use crate::media::{mount, text};
use crate::trees::archive::{Archive, Counts};
use crate::trees::compare::Ctime;
use crate::trees::deletions::Deletions;
use crate::trees::walk::walk;

/// Room for two mount points.
const ROOM_BYTES: u64 = 1 << 20;

/// Mount, compare, tell.
pub(super) fn look(diff: &Diff, devices: &Devices, outputs: &Outputs) -> anyhow::Result<End> {
    let place = own_place()?;
    let (base, session) = (place.join("base"), place.join("session"));
    for (side, target, wants_replay) in [
        (Side::Base, &base, End::BaseWantsReplay),
        (Side::Session, &session, End::SessionWantsReplay),
    ] {
        let volume = devices.volume(side)?;
        match replayed::mount(&volume.device, volume.kind, target, volume.is_read_only)? {
            Seen::Mounted => {}
            Seen::WantsReplay => return Ok(wants_replay),
        }
    }
    let (old, new) = (devices.volume(Side::Base)?, devices.volume(Side::Session)?);
    // One that was made anew in the session has times of its own.
    let ctime = match old.kind == new.kind {
        true => Ctime::of(old.kind),
        false => Ctime::Unknown,
    };
    tell(diff, (&base, &session), ctime, outputs).map(|()| End::Done)
}

/// An empty folder, on one that is there on any machine; only this process sees it, and what is mounted in it.
pub(in crate::cmd) fn own_place() -> anyhow::Result<&'static Path> {
    let places = ["/run", "/tmp", "/mnt"].map(Path::new);
    let place = places.into_iter().find(|place| place.is_dir());
    let place = place.context("finding a folder to mount on: there is no /run, /tmp or /mnt")?;
    mount::private_namespace()?;
    mount::tmpfs(place, ROOM_BYTES)?;
    Ok(place)
}

fn tell(
    diff: &Diff,
    (base, session): (&PathBuf, &PathBuf),
    ctime: Ctime,
    outputs: &Outputs,
) -> anyhow::Result<()> {
    let archiving = "writing the archive";
    let mut show = Show::begin(outputs.list(), diff)?;
    let mut archive = outputs.archive().context(archiving)?.map(Archive::new);
    let deleted = outputs.deleted().context(archiving)?;
    let mut deleted = deleted.map(Deletions::new);
    walk(base, session, ctime, &mut |found| {
        show.tell(found)?;
        if let Some(deleted) = &mut deleted {
            deleted.take(found).context("writing what was deleted")?;
        }
        match &mut archive {
            Some(archive) => archive.take(found),
            None => Ok(()),
        }
    })?;
    let counts = match archive {
        Some(archive) => {
            let (mut to, counts) = archive.finish().context(archiving)?;
            to.flush().context(archiving)?;
            Some(counts)
        }
        None => None,
    };
    let deletions = deleted.map(Deletions::finish).transpose();
    let deletions = deletions.context("writing what was deleted")?;
    outputs.sync()?;
    show.end(counts.map(|counts| archived(diff, counts, deletions)))
}

/// A line on the archive.
fn archived(diff: &Diff, counts: Counts, deletions: Option<u64>) -> String {
    let path = diff.tar.as_deref().unwrap_or(Path::new("-"));
    let mut line = format!(
        "'{}': {} entries, {}",
        path.display(),
        counts.entries,
        text::size(counts.bytes)
    );
    match deletions {
        Some(count) => line.push_str(&format!("; '{}.deleted': {count} paths", path.display())),
        None => line.push_str("; what was deleted is not in it"),
    }
    if counts.sockets > 0 {
        line.push_str(&format!(
            "; {} sockets are not in it, tar has no such thing",
            counts.sockets
        ));
    }
    line
}
