//! Why something is not merged, in words for whoever has to do something about it.

use std::fmt;

use crate::disk::target::Target;
use crate::engine::command::Failure;
use crate::engine::cowfile::layers::NotDone;
use crate::engine::cowfile::layers::merging::NotMerged;
use crate::engine::format::superblock::Merge;
use crate::engine::merge::undo::BadLog;
use crate::engine::merge::{Side, Stopped};
use crate::engine::units::CHUNK_BYTES;
use crate::media::cowfile::Opened;

/// Of a merge that no boot goes on with.
pub(super) const ONLY_WITH_ITS_LOG: &str = "a merge is under way that keeps an undo log, or is being undone, and no boot \
    goes on with it: without booting from it, `cowroot merge COWFILE --into BASE --undo-log LOG` does, `cowroot merge --undo LOG` takes it back; \
    if the log is lost, --without-undo-log goes on";

/// What people call a layer.
pub(super) fn name_of(opened: &Opened, number: u8) -> String {
    let layers = opened.description.layers.iter();
    let mut named = layers.filter(|layer| layer.number == number);
    match named.next() {
        // Names come from the medium.
        Some(layer) => format!("'{}'", layer.name.replace(char::is_control, "?")),
        None => format!("layer {number}"),
    }
}

/// Why these layers are not merged.
pub(super) fn refused(opened: &Opened, why: NotMerged) -> anyhow::Error {
    let list = |numbers: &[u8]| {
        let names = numbers.iter().map(|number| name_of(opened, *number));
        names.collect::<Vec<_>>().join(", ")
    };
    match why {
        NotMerged::Depend(numbers) => anyhow::anyhow!(
            "other sessions depend on what would change: {}; --output makes a new image and leaves them as they are, or \
             delete them first",
            list(&numbers)
        ),
        NotMerged::NotInStack(number) => {
            anyhow::anyhow!("session {} is not in use", name_of(opened, number))
        }
        NotMerged::Other(top) => anyhow::anyhow!(
            "a merge up to session {} is under way; go on with that first (the same without --up-to)",
            name_of(opened, top)
        ),
        other => plain(&other),
    }
}

fn plain(why: &NotMerged) -> anyhow::Error {
    let text = match why {
        NotMerged::Cowfile(NotDone::NotClosed) => {
            "the cowfile is not closed; attach and detach it once"
        }
        NotMerged::Cowfile(NotDone::ReadOnly) => {
            "a newer cowroot has to write the cowfile; merge with that"
        }
        NotMerged::Cowfile(NotDone::TooMany) => {
            "all layers of the cowfile are in use, and what is written before a merge is over needs one more; merge without \
             the topmost session (--up-to), or delete one (`cowroot session`)"
        }
        NotMerged::Cowfile(NotDone::Failed(Failure::NoSpace)) => {
            "the cowfile's file system is full; make room there"
        }
        NotMerged::Cowfile(NotDone::Implausible) => {
            "nothing would open the cowfile afterwards: this is a bug in cowroot; nothing was written"
        }
        NotMerged::Cowfile(_) => "the cowfile's medium does not take writes; copy it to another",
        NotMerged::NothingKept => {
            "the merged session was dropped; --without-cowfile puts the base back alone"
        }
        NotMerged::Depend(_) | NotMerged::NotInStack(_) | NotMerged::Other(_) => {
            "its sessions are not as they were; look at `cowroot info`"
        }
    };
    anyhow::anyhow!("{text}")
}

/// Why a merge ended early; the base's and the log's last errors say more.
pub(super) fn stopped(stopped: Stopped, targets: [Option<&mut Target>; 2]) -> anyhow::Error {
    stopped_in("the base", stopped, targets)
}

/// Why a new image was not made.
pub(super) fn not_made(stopped: Stopped, image: &mut Target) -> anyhow::Error {
    stopped_in("the new image", stopped, [Some(image), None])
}

fn stopped_in(
    written: &'static str,
    stopped: Stopped,
    targets: [Option<&mut Target>; 2],
) -> anyhow::Error {
    let [base, log] = targets;
    match stopped {
        Stopped::Session(trouble) => {
            anyhow::anyhow!("reading the session: {trouble}; `cowroot check` tells what is damaged")
        }
        Stopped::Damaged { stretches, is_all } => Damage::of(&stretches, is_all, None).into(),
        Stopped::Failed {
            side,
            doing,
            offset,
            failure,
        } => {
            let (what, target) = match side {
                Side::Base => (written, base),
                Side::Log => ("the undo log", log),
                Side::Source => ("the base", None),
            };
            let words = match target.and_then(Target::last_error) {
                Some(error) => error.to_string(),
                None if failure == Failure::NoSpace => "no space left".into(),
                None => "input/output error".into(),
            };
            let next = match (failure, side) {
                (Failure::NoSpace, Side::Log) => {
                    "make room there, and say the same again; or go on without it, with --without-undo-log, and nothing \
                     can be taken back"
                }
                (Failure::NoSpace, _) => "make room, and say the same again",
                (Failure::Io, _) => "the kernel's log may say more; the same again goes on",
            };
            anyhow::anyhow!("{doing} {what} at byte {offset}: {words}; {next}")
        }
        Stopped::Differs(offset) => anyhow::anyhow!(
            "byte {offset} does not read as it was just written: the medium loses data; copy what is on it to another, \
             and merge there"
        ),
        Stopped::State(why) => plain(&why),
        Stopped::Log(bad) => bad_log(bad),
        Stopped::Unknown(why) => anyhow::anyhow!("looking at the base when it was merged: {why}"),
    }
}

/// What of a session does not read, or not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Bytes of the device: starts and ends.
    pub stretches: Vec<(u64, u64)>,
    /// No others are.
    pub is_all: bool,
    /// A part of it may be in the base already, of a merge that keeps an undo log or none.
    begun: Option<Merge>,
}

impl Damage {
    /// Of these chunks: starts and ends.
    #[must_use]
    pub fn of(chunks: &[(u64, u64)], is_all: bool, begun: Option<Merge>) -> Self {
        let bytes = |&(start, end): &(u64, u64)| (start * CHUNK_BYTES, end * CHUNK_BYTES);
        Self {
            stretches: chunks.iter().map(bytes).collect(),
            is_all,
            begun,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        let shown = self.stretches.iter().take(SHOWN);
        let bytes = shown.map(|(start, end)| format!("bytes {start} to {end}"));
        let mut list = bytes.collect::<Vec<_>>().join(", ");
        if self.stretches.len() > SHOWN {
            list.push_str(&format!(
                " and {} more stretches",
                self.stretches.len() - SHOWN
            ));
        }
        if !self.is_all {
            list.push_str(" (there may be more, behind what was read so far)");
        }
        write!(to, "the session is damaged at {list} of the device, and ")?;
        let next = match self.begun {
            None => {
                "nothing was changed; `cowroot check` tells all, `cowroot check --repair --drop-damaged` lets what is below \
                 show there"
            }
            Some(merge) if merge.is_logged => {
                "other parts of it may be in the base already; if the medium fails only now and then, the same again goes \
                 on; `cowroot merge --undo` puts the base back, and then `cowroot check --repair --drop-damaged` lets \
                 what is below show there"
            }
            Some(_) => {
                "other parts of it may be in the base already; if the medium fails only now and then, the same again goes \
                 on; else `cowroot check --repair --drop-damaged` lets what is below show there (an older session, or what the \
                 base has by now, old or merged), and then it goes on"
            }
        };
        to.write_str(next)
    }
}

impl std::error::Error for Damage {}

/// Why a merge into the base ended early that had begun.
pub(super) fn stopped_midway(
    stopped: Stopped,
    merge: Merge,
    targets: [Option<&mut Target>; 2],
) -> anyhow::Error {
    match stopped {
        Stopped::Damaged { stretches, is_all } => {
            Damage::of(&stretches, is_all, Some(merge)).into()
        }
        other => self::stopped(other, targets),
    }
}

pub(super) fn bad_log(bad: BadLog) -> anyhow::Error {
    match bad {
        BadLog::NotALog => anyhow::anyhow!("it is no undo log, or its beginning is not whole"),
        BadLog::Version(version) => anyhow::anyhow!(
            "it is an undo log of version {version}, which another version of cowroot wrote; use that"
        ),
        BadLog::Damaged { offset } => anyhow::anyhow!(
            "the undo log is damaged at byte {offset}, and there is more behind; it is not used"
        ),
        BadLog::Other => anyhow::anyhow!("the undo log is another merge's, or another cowfile's"),
    }
}
