//! Why a cowfile cannot be opened, in words for whoever has to do something about it.

use std::fmt;

use crate::engine::format::check::Refusal;
use crate::engine::format::page;

/// Why a cowfile cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It is a cowfile, and not one for this program.
    Refused(Refusal),
    /// Its superblock is of this version of the format, which is not known here.
    OtherVersion(u16),
    /// Neither superblock is one; nothing here says that it ever was a cowfile.
    NotACowfile,
    /// A superblock was here, but neither copy is whole.
    NoSuperblock,
    /// The medium does not read at this slot.
    Unreadable {
        /// Where.
        slot: u32,
    },
    /// It ends before what its superblock, or its journal, says was written.
    Truncated {
        /// Slots it should have.
        slots: u32,
    },
    /// One of its sibling files is another cowfile's, or none.
    ForeignSibling {
        /// Which.
        number: u32,
    },
    /// The header of one of its sibling files is not whole.
    DamagedSibling {
        /// Which.
        number: u32,
    },
    /// A page with a right checksum says what cannot be.
    Damaged {
        /// Where.
        slot: u32,
    },
    /// Pages of the journal that were durable are not there, or not whole.
    Lost,
}

impl fmt::Display for Trouble {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(to),
            Self::OtherVersion(version) => write!(
                to,
                "made by another version of cowroot: its format has version {version}, this one reads {}; \
                 open it with that version",
                page::VERSION
            ),
            Self::NotACowfile => write!(to, "not a cowfile; is it the file that was meant?"),
            Self::NoSuperblock => write!(
                to,
                "a cowfile, but neither copy of its superblock is whole; copy it before anything else is tried"
            ),
            Self::Unreadable { slot } => write!(
                to,
                "its medium does not read at slot {slot}; copy what can be read (with ddrescue, say) and open that"
            ),
            Self::Truncated { slots } => write!(
                to,
                "shorter than the {slots} slots that it has; was it copied whole, with all its files?"
            ),
            Self::ForeignSibling { number } => write!(
                to,
                "its file number {number} is not one of this cowfile; put the right one beside it"
            ),
            Self::DamagedSibling { number } => write!(
                to,
                "the header of its file number {number} is not whole; if it is the file that belongs there, `cowroot \
                 check --repair` mends that"
            ),
            Self::Damaged { slot } => write!(
                to,
                "the page at slot {slot} is not the one that belongs there; copy the cowfile before anything else \
                 is tried"
            ),
            Self::Lost => write!(
                to,
                "what its medium had said was written is not there, or something else has written to it; copy it \
                 before anything else is tried"
            ),
        }
    }
}

impl std::error::Error for Trouble {}
