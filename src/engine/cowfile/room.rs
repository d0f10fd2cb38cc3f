//! Room: what may be accepted, so that whatever is accepted can be made durable.
//!
//! At every moment the free slots are enough to commit what is staged, to write a checkpoint of all
//! that would then be in the journal, and to begin a new journal. Beyond that a part is left for
//! giving up what is there when the store is full, a part for rewriting it, and a part for a file
//! system's metadata.

use std::ops::{Deref, Range};
use std::sync::atomic::AtomicU32;

use super::delta::Change;
use super::found::Standing;
use super::mutant::{self, Mutant};
use super::pages::pages_for;
use super::pending::Io;
use super::trees::Missing;
use super::{Cowfile, WhenFull};
use crate::engine::command::{Action, Buffers, Failure, Request};
use crate::engine::format::Entry;

use super::pending::Purpose;

/// Whether a change may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Yes,
    /// Something is on its way that may make room.
    Later,
    /// Nothing is.
    No,
    /// It depends on whether the chunk has a slot: this page says.
    Ask(Missing),
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// Slots needed for all that is accepted, and one change more.
    pub(super) fn need(&self) -> u64 {
        let (open, closing) = (self.staging.open_epoch(), self.staging.closing());
        let frozen = self.frozen.as_ref();
        let long = |count: usize| count as u64;
        // A closing epoch that is being written has its slots already.
        let closing_puts = closing
            .filter(|_| self.commit.is_none())
            .map_or(0, |closing| long(closing.puts()));
        // Places taken by writes that still read what their chunk was.
        let named = open.puts() + closing.map_or(0, |epoch| epoch.puts());
        let promised = (self.staging.used() as usize).saturating_sub(named);
        let puts = named + promised + 1;
        let fills = open.fills() + closing.map_or(0, |epoch| epoch.fills()) + 1;
        let journal_puts = self.delta.puts() + frozen.map_or(0, |delta| delta.puts());
        let journal_fills = self.delta.fills() + frozen.map_or(0, |delta| delta.fills());
        let commit = long(open.puts() + promised)
            + 1
            + closing_puts
            + long(pages_for(self.shape, puts, fills))
            + 2;
        let restart = long(pages_for(self.shape, journal_puts, journal_fills)) + 2;
        let leaves = open.leaves()
            + long(promised)
            + 2
            + closing.map_or(0, |epoch| epoch.leaves())
            + self.delta.leaves();
        // What is being folded now takes its pages before what came later takes its own.
        let folding = frozen.map_or(0, |delta| self.tree_pages(delta.leaves()));
        commit + restart + folding + self.tree_pages(leaves)
    }

    /// No more pages than this are written for a checkpoint that touches so many of the lowest.
    fn tree_pages(&self, leaves: u64) -> u64 {
        let (chunks, shift) = (self.superblock.chunks(), u32::from(self.shape.fanout_shift));
        (1..=u32::from(self.trees.height()))
            .map(|level| leaves.min(chunks.div_ceil(1 << (shift * level)).max(1)))
            .sum()
    }

    /// Slots left for rewriting, when nothing new is accepted any more: enough for a batch of chunks
    /// wherever they are.
    fn rewriting_reserve(&self) -> u64 {
        let batch = u64::from(self.settings.staging_chunks)
            .min(u64::from(self.superblock.max_slots) / 128)
            .clamp(1, 4096);
        batch * (2 + u64::from(self.trees.height()))
    }

    /// Slots left for forgetting chunks that have slots, when nothing else is accepted any more: each
    /// time a page or two of each level on either side.
    fn forgetting_reserve(&self) -> u64 {
        4 * (2 * u64::from(self.trees.height()) + 1)
    }

    /// Slots that exist or may be grown, and are not in use.
    fn free_in_all(&self) -> u64 {
        u64::from(self.space.free()) + u64::from(self.space.free_when_grown(self.max_slots))
    }

    /// Whether a chunk may be put into the open epoch.
    pub(super) fn admit_put(&mut self, request: &Request, chunk: u64) -> Admission {
        if mutant::is(Mutant::ReserveIgnored) {
            return match self.free_in_all() > u64::from(self.staging.used()) {
                true => Admission::Yes,
                false => Admission::No,
            };
        }
        let metadata = match request.may_use_reserve() {
            true => 0,
            false => u64::from(self.settings.metadata_reserve),
        };
        let (free, need) = (self.free_in_all(), self.need());
        let floor = need + self.forgetting_reserve();
        if free >= floor + self.rewriting_reserve() + metadata {
            return self.when_grown(need);
        }
        // Full: but what has a slot may be written again.
        match self.has_own_slot(chunk) {
            Err(missing) => Admission::Ask(missing),
            Ok(true) if free >= floor => self.when_grown(need),
            Ok(_) => self.later_or_never(),
        }
    }

    /// Whether a run may be put into the open epoch.
    pub(super) fn admit_fill(&mut self, chunks: &Range<u64>) -> Admission {
        let (free, need) = (self.free_in_all(), self.need());
        if free >= need + self.forgetting_reserve() + self.rewriting_reserve() {
            return self.when_grown(need);
        }
        // Full: but what makes room is welcome. A run that begins and ends where nothing is may take
        // pages of the trees for good.
        for chunk in [chunks.start, chunks.end - 1] {
            match self.has_own_slot(chunk) {
                Err(missing) => return Admission::Ask(missing),
                Ok(true) if free >= need => return self.when_grown(need),
                Ok(_) => {}
            }
        }
        self.later_or_never()
    }

    /// Whether a chunk has a slot that becomes free when it is written again or forgotten.
    fn has_own_slot(&mut self, chunk: u64) -> Result<bool, Missing> {
        match self.staging.get(chunk) {
            Some(change) => Ok(matches!(change, Change::Put(_))),
            None => {
                let entry = self.committed(chunk)?;
                Ok(self.is_of_active_layer(chunk, entry))
            }
        }
    }

    fn later_or_never(&self) -> Admission {
        match self.may_make_room() {
            true => Admission::Later,
            false => Admission::No,
        }
    }

    /// There is room; but some of it has yet to be grown, or found.
    fn when_grown(&self, need: u64) -> Admission {
        let soon = self.growing || self.scan.is_some() || self.space.grown() < self.max_slots;
        match u64::from(self.space.free()) >= need || !soon {
            true => Admission::Yes,
            false => Admission::Later,
        }
    }

    /// Whether the slot is one that a rewrite makes free; a lower layer's stays.
    fn is_of_active_layer(&mut self, chunk: u64, entry: Entry) -> bool {
        if !entry.is_slot() {
            return false;
        }
        let in_delta = |delta: &super::delta::Delta<Entry>| delta.get(chunk).is_some();
        if in_delta(&self.delta) || self.frozen.as_ref().is_some_and(in_delta) {
            return true;
        }
        let (layer, root) = (self.superblock.active_layer, self.active_root());
        matches!(self.trees.descend(layer, root, chunk, 0), Ok(found) if found == entry)
    }

    /// Whether a commit, a checkpoint or the scan may still make room.
    pub(super) fn may_make_room(&self) -> bool {
        self.broken.is_none()
            && (!self.staging.open_epoch().is_empty()
                || self.staging.closing().is_some()
                // Writes that still read what their chunk was.
                || self.staging.used() > 0
                || self.checkpoint.is_some()
                || self.flip.is_some()
                || self.restart.is_some()
                || self.scan.is_some()
                || self.may_scan_again()
                || self.growing
                || self.has_garbage()
                || self.settings.when_full == WhenFull::Wait)
    }

    /// Let those try again that wait for room, in their order.
    pub(super) fn feed(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        let open = self.staging.open_epoch();
        let before = (self.starved.len(), open.puts(), open.fills());
        for id in std::mem::take(&mut self.starved) {
            self.advance_request(id, io);
        }
        let open = self.staging.open_epoch();
        before != (self.starved.len(), open.puts(), open.fills())
    }

    /// Writes that wait for room will get none: they fail now.
    pub fn give_up_waiting(
        &mut self,
        buffers: &mut impl Buffers,
        out: &mut crate::engine::command::Outbox,
    ) {
        let io = &mut Io { buffers, out };
        for id in std::mem::take(&mut self.starved) {
            self.fail(id, Failure::NoSpace);
            self.advance_request(id, io);
        }
        self.pump(io);
    }

    /// Whether there should be more slots.
    pub(super) fn wants_growth(&self) -> bool {
        let enough =
            u64::from(self.space.free()) >= self.need() + u64::from(self.settings.grow_slots) / 2;
        let in_use = self.wants_restart()
            || !self.staging.open_epoch().is_empty()
            || !self.starved.is_empty()
            || self.tail.is_some();
        let may = self.settings.grow_slots > 0
            && !self.growing
            && self.space.grown() < self.max_slots
            && self.broken.is_none();
        may && in_use && !enough
    }

    /// Grow ahead of use.
    pub(super) fn step_growth(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        // What another superblock names may be beyond what this one says exists.
        if self.standing != Standing::Durable || !self.wants_growth() {
            return false;
        }
        let (grown, most) = (self.space.grown(), self.max_slots);
        self.growing = true;
        // Whole steps: where a file is never longer than when it was made, one is a file.
        let to = (grown + 1).checked_next_multiple_of(self.grow_slots);
        let to = to.map_or(most, |to| to.min(most));
        let action = Action::GrowCow {
            offset: self.shape.offset_bytes(grown),
            len: self.shape.offset_bytes(to) - self.shape.offset_bytes(grown),
        };
        self.command(action, Purpose::Grow { to }, None, io.out);
        true
    }

    /// The cowfile has grown, or cannot.
    pub(super) fn grew(&mut self, to: u32, result: Result<(), Failure>) {
        self.growing = false;
        match result {
            Ok(()) => self.space.grow(to),
            Err(_) => {
                // Less may fit where much does not.
                let zone = self.shape.zone_slots;
                match self.grow_slots > zone {
                    true => self.grow_slots = (self.grow_slots / 2).next_multiple_of(zone),
                    // Said in RAM only: the next open may find room on the medium.
                    false => self.max_slots = self.space.grown(),
                }
                // It syncs too, and an error that it was told is told nobody else.
                self.trouble |= self.has_jobs();
            }
        }
    }
}
