//! A merge before the root is served: the base's medium made writable for it, and read-only again after.
//!
//! A merge that cannot be, or ends early, fails no boot: base and session read as before, whatever came of it.

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use log::Level;

use super::cmdline::Plan;
use super::console;
use super::cow::Store;
use super::reach::{Medium, Reached};
use crate::media::merge::{self, Damage, Due, Phase, Wishes};
use crate::media::open::CowStore;
use crate::media::session::Wish;
use crate::media::source::Source;
use crate::media::{mount, remount, text};

/// Progress is told so often.
const OFTEN: Duration = Duration::from_secs(1);

/// `cowroot.merge=`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MergePolicy {
    /// What somebody asked for with `cowroot merge --next-boot`, and what was begun.
    #[default]
    Requested,
    /// Whatever the session holds, at each boot.
    Yes,
    /// Nothing, whatever was asked for.
    No,
}

impl FromStr for MergePolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "requested" => Ok(Self::Requested),
            "yes" => Ok(Self::Yes),
            "no" => Ok(Self::No),
            _ => Err(format!("'{text}' is not one of requested, yes, no")),
        }
    }
}

/// Merge what is due, and say so. The store, with a notice where something was due and was not done.
pub(super) fn before(plan: &Plan, base: &Reached, cow: Store) -> Store {
    let CowStore::File(path) = &cow.store else {
        return cow;
    };
    if plan.merge == MergePolicy::No || plan.session == Wish::Throwaway {
        return cow;
    }
    let is_due = |due: &anyhow::Result<Option<Due>>| !matches!(due, Ok(None));
    let due = Some(merge::due(path, plan.merge == MergePolicy::Yes)).filter(is_due);
    let Some(due) = due else { return cow };
    let again = match &due {
        // It says itself how that goes on.
        Err(_) | Ok(None) => "",
        Ok(Some(due)) if due.is_asked => {
            "; the next boot tries again: cowroot.merge=no skips that, and `cowroot merge /dev/ublkb0 --next-boot --cancel` \
             takes it back"
        }
        Ok(Some(_)) => "; the next boot tries again: cowroot.merge=no skips that",
    };
    let done = due.and_then(|due| match due {
        Some(due) => run(plan, base, path, &due),
        None => Ok(None),
    });
    let (level, notice) = match done {
        Ok(None) => return cow,
        Ok(Some(notice)) => (Level::Warn, notice),
        Err(error) => (Level::Error, format!("{}{again}", not_merged(&error))),
    };
    console::log(level, &notice);
    Store {
        notice: Some(notice),
        ..cow
    }
}

/// Which files some damage concerns is not looked for in a boot: that reads all of the root's names, and a root that
/// meets damage may end the machine.
fn not_merged(error: &anyhow::Error) -> String {
    let files = match error.is::<Damage>() {
        true => {
            "; `cowroot merge COWFILE --into BASE --dry-run` tells which files that concerns, where both are not in use"
        }
        false => "",
    };
    format!(
        "the session was not merged into its base, or not all of it; the system is as it was: {error:#}{files}"
    )
}

/// Merge it. What there is to say afterwards: that the medium is not as it was.
fn run(plan: &Plan, base: &Reached, cow: &Path, due: &Due) -> anyhow::Result<Option<String>> {
    let medium = match (&base.medium, &plan.base.medium) {
        (_, Source::Nfs(_)) => bail!(
            "the base is on a server; merge it there, or into a new image with cowroot merge --output"
        ),
        (Some(medium), _) => medium,
        (None, _) => bail!(
            "the base lies in an image that cannot be written; cowroot merge --output makes a new one"
        ),
    };
    if let Some((kind, _)) = &medium.mounted
        && !mount::is_writable(kind)
    {
        bail!(
            "the base is on {kind}, which cannot be written; cowroot merge --output makes a new image"
        );
    }
    if let Some((kind, _)) = &medium.mounted
        && !mount::holds_cowfiles(kind)
    {
        bail!(
            "the base is on {kind}, which a boot does not write; merge without booting it (cowroot merge COWFILE --into \
             BASE), or make a new image with --output"
        );
    }
    let verb = if due.is_under_way {
        "going on merging"
    } else {
        "merging"
    };
    console::log(
        Level::Warn,
        &format!(
            "{verb} the session into '{}'; if the power goes meanwhile nothing is lost, and the next boot goes on \
             (cowroot.merge=no skips it)",
            base.path.display()
        ),
    );
    if !base.is_shared {
        open_up(medium)?;
    }
    let merged = copy(&base.path, cow, due);
    if base.is_shared {
        return merged.map(|()| None);
    }
    // Whatever came of it, the medium is to be as it was mounted for a boot. What is merged is durable.
    let open = close_again(medium)
        .err()
        .map(|error| format!("the base's medium is not read-only again: {error:#}"));
    match (merged, open) {
        (Ok(()), open) => Ok(open),
        (Err(error), None) => Err(error),
        (Err(error), Some(open)) => Err(error.context(format!("{open}; and the merge"))),
    }
}

fn copy(base: &Path, cow: &Path, due: &Due) -> anyhow::Result<()> {
    let wishes = Wishes {
        top: Some(due.top),
        frees: due.frees,
        ..Wishes::default()
    };
    let began = Instant::now();
    let mut told = began;
    let report = merge::into_base(cow, base, &wishes, &mut |phase, done, total| {
        if told.elapsed() >= OFTEN {
            told = Instant::now();
            let doing = match phase {
                Phase::Checking => "reading the session",
                Phase::Merging | Phase::Copying | Phase::Undoing => "merging",
            };
            console::log(
                Level::Info,
                &format!(
                    "{doing}: {} of {}; do not worry about the power",
                    text::size(done),
                    text::size(total)
                ),
            );
        }
    })?;
    let sessions = report.sessions.join(", ");
    let said = match report.is_nothing() {
        true => format!("{sessions}: nothing to merge"),
        false => format!(
            "merged {} of {sessions} into the base in {:.1} s",
            text::size(report.data_bytes()),
            began.elapsed().as_secs_f32()
        ),
    };
    console::log(Level::Info, &said);
    Ok(())
}

/// Let the base's medium be written: its file system is mounted anew, for a journal that was not replayed.
fn open_up(medium: &Medium) -> anyhow::Result<()> {
    let Some((kind, at)) = &medium.mounted else {
        return remount::set_writable(&medium.device);
    };
    remount::unmount(at)?;
    let opened = remount::set_writable(&medium.device)
        .and_then(|()| mount::writable(&medium.device, kind, at));
    if opened.is_err() {
        // The boot needs it as it was.
        mount::medium(&medium.device, kind, at).context("mounting the medium again")?;
    }
    opened
}

fn close_again(medium: &Medium) -> anyhow::Result<()> {
    let Some((kind, at)) = &medium.mounted else {
        return mount::set_read_only(&medium.device);
    };
    remount::unmount(at)?;
    mount::medium(&medium.device, kind, at).context("mounting the medium again, read-only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_one_of_three() {
        assert_eq!("requested".parse(), Ok(MergePolicy::Requested));
        assert_eq!("yes".parse(), Ok(MergePolicy::Yes));
        assert_eq!("no".parse(), Ok(MergePolicy::No));
        assert!("maybe".parse::<MergePolicy>().is_err());
        assert!("".parse::<MergePolicy>().is_err());
    }

    #[test]
    fn who_has_damage_is_told_how_to_see_which_files_it_concerns() {
        let damage = anyhow::Error::from(Damage::of(&[(1, 2)], true, None)).context("merging");
        let says = not_merged(&damage);
        assert!(
            says.contains("merging: the session is damaged at bytes 4096 to 8192"),
            "{says}"
        );
        assert!(says.contains("--dry-run` tells which files"), "{says}");
        assert!(!not_merged(&anyhow::anyhow!("full")).contains("--dry-run"));
    }
}
