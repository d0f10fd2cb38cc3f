//! Checkpoints: what the journal said is folded into the active layer's tree, out of place.
//!
//! The changes are folded (`fold.rs`) and new pages go to fresh slots; one sync; then a superblock.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::delta::{Change, Delta, Fill};
use super::flip::Reason;
use super::fold::{Need, Step};
use super::mutant::{self, Mutant};
use super::pending::{Io, Job, Purpose};
use super::trees::Missing;
use crate::engine::command::{Action, Buffers, Failure};
use crate::engine::format::Entry;
use crate::engine::format::commit::Link;

/// Loads of tree pages that may fail before a checkpoint goes on without.
const LOADS: u32 = 4;

/// From here on, in percent of what data may take, room is looked for though nobody waits for it. Below it nobody is warned
/// any more (`ublk/fullness.rs`).
const CROWDED: u64 = 75;

/// A checkpoint under way.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The journal begins here for the new superblock, after this epoch.
    pub(super) link: Link,
    pub(super) epoch: u64,
    /// Pages of this level are being written, for these changes of their children.
    pub(super) level: u8,
    pub(super) steps: VecDeque<Step>,
    /// Changes of this level's pages.
    pub(super) above: VecDeque<Step>,
    /// Subtrees nobody will need, to be listed.
    pub(super) dropped: Vec<Missing>,
    /// Slots nobody will need.
    pub(super) replaced: Vec<u32>,
    /// Slots of new pages.
    pub(super) written: Vec<u32>,
    pub(super) root: Option<Entry>,
    /// Loads of tree pages that failed.
    failed_loads: u32,
    pub(super) outstanding: usize,
    pub(super) syncing: bool,
    pub(super) synced: bool,
    pub(super) flipping: bool,
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    fn wants_checkpoint(&self) -> bool {
        let long = self.journal.len() > self.settings.journal_pages
            || self.delta.puts() > self.settings.journal_chunks;
        let nothing_staged =
            self.staging.open_epoch().is_empty() && self.staging.closing().is_none();
        let cramped = (nothing_staged && !self.starved.is_empty()) || self.short;
        let cramped = cramped && self.has_garbage();
        // Who has deleted files is to see the room that they took.
        let given_up = nothing_staged && self.delta.fills() > 0 && self.is_crowded();
        let closing = self.closing_down && nothing_staged && !self.superblock.clean;
        (long && !self.delta.is_empty()) || cramped || given_up || closing || self.wants_fold()
    }

    /// Whether commits wait for the checkpoint that is under way: the journal would get longer than an open
    /// has time for, and the RAM for what it says larger than anybody counts with.
    pub(super) fn journal_is_full(&self) -> bool {
        let long = self.journal.len() > 2 * self.settings.journal_pages
            || self.delta.puts() > self.settings.journal_chunks;
        long && self.checkpoint.is_some()
    }

    /// Whether it is nearly full, as far as is known.
    fn is_crowded(&self) -> bool {
        let usage = self.usage();
        usage.is_known && usage.limits.percent_for_data(usage.used) >= CROWDED
    }

    /// Whether a checkpoint could free anything.
    pub(super) fn has_garbage(&self) -> bool {
        !self.delta.is_empty() || !self.held.is_empty() || self.journal.len() > 1
    }

    pub(super) fn step_checkpoint(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        if self.trouble || self.broken.is_some() || self.scan.is_some() {
            return false;
        }
        if self.checkpoint.is_none() {
            let free = self.flip.is_none() && self.restart.is_none();
            return free && self.wants_checkpoint() && self.begin_checkpoint();
        }
        let Some(mut checkpoint) = self.checkpoint.take() else {
            return false;
        };
        let moved = self.advance(&mut checkpoint, io);
        self.checkpoint = Some(checkpoint);
        moved
    }

    fn begin_checkpoint(&mut self) -> bool {
        let Some(link) = self.tail else {
            return false;
        };
        let leaf_shift = self.shape.fanout_shift;
        let frozen = std::mem::replace(&mut self.delta, Delta::new(leaf_shift));
        let steps = frozen.iter().map(|(first, count, change)| Step {
            first,
            count,
            entry: match change {
                Change::Put(entry) => entry,
                Change::Fill(Fill::Zero) if !mutant::is(Mutant::DiscardReveals) => Entry::ZERO,
                Change::Fill(_) => Entry::ABSENT,
            },
            settled: true,
        });
        self.checkpoint = Some(Checkpoint {
            link,
            epoch: self.epoch,
            level: 0,
            steps: steps.collect(),
            above: VecDeque::new(),
            dropped: Vec::new(),
            replaced: Vec::new(),
            written: Vec::new(),
            root: None,
            failed_loads: 0,
            outstanding: 0,
            syncing: false,
            synced: false,
            flipping: false,
        });
        self.frozen = Some(frozen);
        true
    }

    fn advance(&mut self, checkpoint: &mut Checkpoint, io: &mut Io<'_, impl Buffers>) -> bool {
        if checkpoint.flipping {
            return false;
        }
        let mut moved = false;
        loop {
            let need = if !checkpoint.steps.is_empty() {
                self.fold(checkpoint, io)
            } else if !checkpoint.above.is_empty() {
                checkpoint.steps = std::mem::take(&mut checkpoint.above);
                checkpoint.level += 1;
                Ok(())
            } else if let Some(&subtree) = checkpoint.dropped.last() {
                self.list(checkpoint, subtree)
            } else {
                break;
            };
            match need {
                Ok(()) => moved = true,
                Err(Need::Page(missing)) => {
                    // Many at once, and no more before these are there: else runs would be short.
                    if !self.loading.contains_key(&missing.entry.slot) {
                        let ahead = self.wanted_soon(checkpoint);
                        moved |= self.load_ahead(ahead, io.out);
                    }
                    return self.load_for_checkpoint(checkpoint, missing, io) || moved;
                }
                Err(Need::Buffer) => return moved,
                Err(Need::Slot) => return self.out_of_slots_for_checkpoint() || moved,
            }
        }
        self.end_of_pages(checkpoint, io) || moved
    }

    /// All pages are on their way: sync them, then write a superblock.
    fn end_of_pages(&mut self, checkpoint: &mut Checkpoint, io: &mut Io<'_, impl Buffers>) -> bool {
        if checkpoint.outstanding > 0 {
            return false;
        }
        let skip = checkpoint.written.is_empty() || mutant::is(Mutant::CheckpointBeforeData);
        if !checkpoint.synced && !skip {
            if self.syncing {
                return false;
            }
            if !checkpoint.syncing {
                checkpoint.syncing = true;
                checkpoint.outstanding += 1;
                let purpose = Purpose::Job {
                    job: Job::Checkpoint,
                    buffer: None,
                };
                self.command(Action::SyncCow, purpose, None, io.out);
            }
            return true;
        }
        checkpoint.flipping = true;
        let mut superblock = self.superblock.clone();
        let active = usize::from(superblock.active_layer);
        if let (Some(Some(layer)), Some(root)) =
            (superblock.layers.get_mut(active), checkpoint.root)
        {
            layer.root = root;
        }
        superblock.journal = checkpoint.link;
        superblock.durable_seq = checkpoint.link.seq - 1;
        superblock.epoch = checkpoint.epoch;
        superblock.clean = self.closing_down
            && self.delta.is_empty()
            && self.staging.open_epoch().is_empty()
            && self.staging.closing().is_none();
        self.begin_flip(superblock, Reason::Checkpoint);
        true
    }

    /// A tree page that the checkpoint cannot do without.
    fn load_for_checkpoint(
        &mut self,
        checkpoint: &mut Checkpoint,
        missing: Missing,
        io: &mut Io<'_, impl Buffers>,
    ) -> bool {
        if self.loading.contains_key(&missing.entry.slot) {
            return false;
        }
        // That it did not read may be long ago, or pass.
        let failed = self.unreadable.remove(&missing.entry.slot);
        checkpoint.failed_loads += u32::from(failed);
        if !failed || checkpoint.failed_loads < LOADS {
            return self.load(missing, None, io.out);
        }
        match checkpoint.steps.is_empty() && checkpoint.above.is_empty() {
            // Its slots are lost until the next open finds that nobody names them.
            true => drop(checkpoint.dropped.pop()),
            // It would have to be written anew, and nobody knows what was in it.
            false => self.broken = Some(Failure::Io),
        }
        true
    }

    fn out_of_slots_for_checkpoint(&mut self) -> bool {
        // A zone that failed once is better than none.
        if self.space.unbar() {
            return true;
        }
        let may_come = self.growing || self.space.grown() < self.max_slots;
        if !may_come {
            self.broken = Some(Failure::NoSpace);
        }
        !may_come
    }

    pub(super) fn active_root(&self) -> Entry {
        let active = usize::from(self.superblock.active_layer);
        let layer = self.superblock.layers.get(active).copied().flatten();
        layer.map_or(Entry::ABSENT, |layer| layer.root)
    }

    pub(super) fn checkpoint_step_over(&mut self, result: Result<(), Failure>) {
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.outstanding -= 1;
            checkpoint.synced |= checkpoint.syncing && result.is_ok();
        }
    }

    pub(super) fn checkpoint_is_busy(&self) -> bool {
        self.checkpoint
            .as_ref()
            .is_some_and(|checkpoint| checkpoint.outstanding > 0)
    }

    /// A superblock names the new tree.
    pub(super) fn checkpoint_is_durable(&mut self) {
        let Some(checkpoint) = self.checkpoint.take() else {
            return;
        };
        self.frozen = None;
        self.held = checkpoint.replaced;
        if mutant::is(Mutant::HeldByOneSuperblock) {
            self.let_go(self.superblock.journal.seq);
        }
        let cramped = !self.starved.is_empty() || self.short || self.is_crowded();
        if cramped || self.superblock.clean {
            self.begin_flip(self.superblock.clone(), Reason::Again);
        }
    }

    /// Forget a checkpoint; its superblock may be on the medium (`in_doubt`).
    pub(super) fn drop_checkpoint(&mut self, in_doubt: bool) {
        let Some(checkpoint) = self.checkpoint.take() else {
            return;
        };
        let in_doubt = in_doubt && checkpoint.flipping;
        let (mut delta, later) = (
            self.frozen
                .take()
                .unwrap_or_else(|| Delta::new(self.shape.fanout_shift)),
            std::mem::replace(&mut self.delta, Delta::new(self.shape.fanout_shift)),
        );
        let mut free = checkpoint.written;
        delta.absorb(&later, |old| free.push(old.slot));
        self.delta = delta;
        if in_doubt {
            // That superblock's trees may name them, until both have been written again.
            self.held.extend(free);
        } else {
            free.into_iter().for_each(|slot| self.space.release(slot));
        }
    }
}
