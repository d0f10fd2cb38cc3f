//! A closed cowfile read whole: what of it is damaged, what that costs, and where its slots are. Writes nothing.

use super::bits::Marks;
use super::found::read_superblock;
use super::recover::{Medium, Recovered, recover};
use super::trouble::Trouble;
use super::walk::{Seen, Walk};
use crate::engine::command::Failure;
use crate::engine::format::Shape;
use crate::engine::format::page::{self, Kind};
use crate::engine::format::superblock::{self, Superblock};

pub use super::walk::{Named, Source, Stretch};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All pages: enough to know where every slot is.
    Pages,
    /// Every chunk besides.
    Everything,
}

/// What stands between a cowfile and its last epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Why it does not open.
    pub trouble: Trouble,
    /// Epochs are lost that were said to be durable, not only the one that was being written.
    pub acknowledged: bool,
}

/// Where the slots are: all these together are the total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// The zones of both superblocks.
    pub superblocks: u32,
    /// Headers of sibling files.
    pub headers: u32,
    /// What the newest superblock leads to.
    pub named: Named,
    /// What only the older superblock leads to.
    pub older: u32,
    /// What nobody names.
    pub free: u32,
    /// All that are grown.
    pub total: u32,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// As it opens; or, with `cut`, as it would without what does not read.
    pub found: Recovered,
    /// What keeps it from being opened.
    pub cut: Option<Cut>,
    /// A superblock that is not whole, by its slot. A power cut leaves one like that: it is written again at the next
    /// write after an open.
    pub superblock: Option<u32>,
    /// It is nothing that a power cut leaves: it does not read, or is another cowfile's.
    pub superblock_fails: bool,
    /// Headers of sibling files that are not whole, by their slots.
    pub headers: Vec<u32>,
    /// Something that only the older superblock leads to is not whole.
    pub older: bool,
    /// What does not read, or not as it was written.
    pub lost: Vec<Stretch>,
    /// What is at a slot that another has, too.
    pub twice: Vec<Stretch>,
    /// What is at a slot that may be taken for free.
    pub beyond: Vec<Stretch>,
    /// Where its slots are.
    pub census: Census,
    pub(super) marks: Marks,
    /// Slots that are not marked may be in use all the same.
    pub(super) is_partial: bool,
}

impl Report {
    /// Nothing is wrong with it, but what a power cut leaves.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.cut.is_none()
            && !self.superblock_fails
            && self.headers.is_empty()
            && !self.older
            && !self.loses()
    }

    /// Something of it can be mended without giving anything up.
    #[must_use]
    pub fn is_mendable(&self) -> bool {
        self.cut.is_some()
            || self.superblock.is_some()
            || !self.headers.is_empty()
            || self.older
            || !self.twice.is_empty()
            || !self.beyond.is_empty()
    }

    /// Something that a reader sees is not as it should be.
    #[must_use]
    pub fn loses(&self) -> bool {
        !(self.lost.is_empty() && self.twice.is_empty() && self.beyond.is_empty())
    }
}

impl Census {
    /// Slots that are in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.total - self.free.min(self.total)
    }

    /// Slots in use that nothing reads any more: free after the next checkpoint or two.
    #[must_use]
    pub fn garbage(&self) -> u32 {
        self.older + self.named.superseded
    }

    /// Whether every slot is where one of these says.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let Named {
            chunks,
            superseded,
            pages,
            journal,
        } = self.named;
        let parts = [
            self.superblocks,
            self.headers,
            chunks,
            superseded,
            pages,
            journal,
            self.older,
            self.free,
        ];
        parts.iter().map(|part| u64::from(*part)).sum::<u64>() == u64::from(self.total)
    }
}

/// Read a cowfile. `watch` is told of bytes that were read, now and then.
///
/// # Errors
/// Why nothing can be said of it: neither superblock leads to an epoch.
pub fn check(
    medium: &mut impl Medium,
    shape: Shape,
    depth: Depth,
    watch: &mut dyn FnMut(u64),
) -> Result<Report, Trouble> {
    let (found, cut) = match recover(medium, shape, None) {
        Ok(found) => (found, None),
        Err(trouble @ (Trouble::Unreadable { .. } | Trouble::Lost | Trouble::Damaged { .. })) => {
            let (found, acknowledged) = without_tail(medium, shape, &trouble)?;
            (
                found,
                Some(Cut {
                    trouble,
                    acknowledged,
                }),
            )
        }
        Err(trouble) => return Err(trouble),
    };
    let all = depth == Depth::Everything;
    let Seen {
        marks,
        named,
        lost,
        twice,
        beyond,
    } = Walk::new(medium, &found, None, all, watch).run();
    let mut report = Report {
        superblock: None,
        superblock_fails: false,
        headers: broken_headers(medium, &found.superblock, marks.end()),
        older: false,
        is_partial: cut.is_some() || lost.iter().any(|lost| lost.source == Source::Page),
        census: Census {
            named,
            ..Census::default()
        },
        found,
        cut,
        lost,
        twice,
        beyond,
        marks,
    };
    report.look_at_the_other(medium, all, watch);
    report.count(medium.slots());
    Ok(report)
}

impl Report {
    /// What the superblock that does not count leads to: it may have to make up for the one that does.
    fn look_at_the_other(
        &mut self,
        medium: &mut impl Medium,
        all: bool,
        watch: &mut dyn FnMut(u64),
    ) {
        let newest = &self.found.superblock;
        let shape = newest.shape;
        let [one, two] = superblock::slots(shape);
        let (here, there) = if newest.slot() == one {
            (one, two)
        } else {
            (two, one)
        };
        let other = match read_superblock(medium, there, shape) {
            Ok(Some(other)) if other.origin.store == newest.origin.store => other,
            other => {
                self.superblock = Some(there);
                self.superblock_fails = !matches!(other, Ok(None) | Err(Trouble::NoSuperblock));
                return;
            }
        };
        let says = |superblock: &Superblock| (superblock.journal, superblock.layers);
        if says(&other) == says(newest) && other.origin == newest.origin {
            return;
        }
        let mut others = Without { medium, slot: here };
        let Ok(found) = recover(&mut others, shape, None) else {
            (self.older, self.is_partial) = (true, true);
            return;
        };
        let seen = Walk::new(medium, &found, Some(&self.marks), all, watch).run();
        // What both lead to has been told.
        let only_here = |stretch: &Stretch| !self.marks.has(stretch.slot);
        self.older = seen.lost.iter().any(only_here);
        self.is_partial |= seen.lost.iter().any(|lost| lost.source == Source::Page);
        self.census.older = seen.marks.missing_in(&self.marks);
        self.marks.add(&seen.marks);
    }

    fn count(&mut self, slots: u32) {
        let superblock = &self.found.superblock;
        let end = superblock.grown_slots.max(self.marks.end());
        let total = end.min(slots).max(superblock.shape.first_slot());
        let headers = total
            .div_ceil(superblock.file_slots.max(1))
            .saturating_sub(1);
        self.census.superblocks = superblock.shape.first_slot();
        self.census.headers = headers;
        self.census.total = total;
        let used = self.marks.count() + self.census.superblocks + headers;
        self.census.free = total.saturating_sub(used);
    }
}

/// Headers of siblings that are grown, or named before a superblock said that they are, and not what they should be.
fn broken_headers(medium: &mut impl Medium, superblock: &Superblock, named: u32) -> Vec<u32> {
    let file_slots = superblock.file_slots.max(1);
    let end = superblock.grown_slots.max(named).min(medium.slots());
    let mut bytes = vec![0; superblock.shape.chunk_len()];
    let mut broken = Vec::new();
    for number in 1..end.div_ceil(file_slots) {
        let slot = number * file_slots;
        let is_whole = medium.read(slot, &mut bytes).is_ok()
            && page::header(&bytes, Kind::Sibling).is_some_and(|header| {
                header.store == superblock.origin.store
                    && header.seq.get() == u64::from(number)
                    && header.slot.get() == slot
            });
        if !is_whole {
            broken.push(slot);
        }
    }
    broken
}

/// The last epoch that is whole, if what does not read were not there, and nothing had been said to be durable.
fn without_tail(
    medium: &mut impl Medium,
    shape: Shape,
    trouble: &Trouble,
) -> Result<(Recovered, bool), Trouble> {
    let mut forgiving = Forgiving { medium, shape };
    let found = recover(&mut forgiving, shape, None).map_err(|_| trouble.clone())?;
    let said = read_superblock(medium, found.superblock.slot(), shape);
    let said = said.ok().flatten().map_or(0, |said| said.durable_seq);
    let acknowledged = found.tail.seq <= said;
    Ok((found, acknowledged))
}

/// A medium without one of its superblocks.
struct Without<'a, M> {
    medium: &'a mut M,
    slot: u32,
}

impl<M: Medium> Medium for Without<'_, M> {
    fn slots(&mut self) -> u32 {
        self.medium.slots()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        if slot == self.slot {
            into.fill(superblock::ERASED);
            return Ok(());
        }
        self.medium.read(slot, into)
    }
}

/// A medium that reads as zeros where it does not read, and whose superblocks say that nothing is durable.
struct Forgiving<'a, M> {
    medium: &'a mut M,
    shape: Shape,
}

impl<M: Medium> Medium for Forgiving<'_, M> {
    fn slots(&mut self) -> u32 {
        self.medium.slots()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        if self.medium.read(slot, into).is_err() {
            into.fill(0);
        }
        if superblock::slots(self.shape).contains(&slot)
            && let Some(mut superblock) = Superblock::decode(into, slot)
        {
            superblock.durable_seq = 0;
            superblock.encode(into);
        }
        Ok(())
    }
}
