//! Checkpoints: what the journal said is folded into the active layer's tree, out of place.
//!
//! Level by level from below: the changes of one level's children give new pages, whose entries are
//! the changes of the level above. What one run says of many whole pages goes up as one change, so
//! that forgetting a disk writes a handful of pages.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::delta::{Change, Delta, Fill};
use super::flip::Reason;
use super::mutant::{self, Mutant};
use super::pending::{Io, Job, Purpose};
use super::trees::Missing;
use crate::engine::command::{Action, Buffers, Failure};
use crate::engine::format::Entry;
use crate::engine::format::commit::Link;
use crate::engine::format::tree::{self, Node};

/// A change of `count` children of a level, all to the same entry.
#[derive(Debug, Clone, Copy)]
struct Step {
    first: u64,
    count: u64,
    entry: Entry,
    /// What was below it is accounted for; else all that hangs under the old entries is to be freed.
    settled: bool,
}

/// A checkpoint under way.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The journal begins here for the new superblock, after this epoch.
    link: Link,
    epoch: u64,
    /// Pages of this level are being written, for these changes of their children.
    level: u8,
    steps: VecDeque<Step>,
    /// Changes of this level's pages.
    above: VecDeque<Step>,
    /// Subtrees nobody will need, to be listed.
    dropped: Vec<Missing>,
    /// Slots nobody will need.
    replaced: Vec<u32>,
    /// Slots of new pages.
    written: Vec<u32>,
    root: Option<Entry>,
    outstanding: usize,
    syncing: bool,
    synced: bool,
    flipping: bool,
}

/// What a step needs before it can go on.
enum Need {
    Page(Missing),
    Buffer,
    Slot,
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    fn wants_checkpoint(&self) -> bool {
        let long = self.journal.len() > self.settings.journal_pages
            || self.delta.puts() > self.settings.journal_chunks;
        let nothing_staged =
            self.staging.open_epoch().is_empty() && self.staging.closing().is_none();
        let cramped = !self.starved.is_empty() && nothing_staged && self.has_garbage();
        let closing = self.closing_down && nothing_staged && !self.superblock.clean;
        (long && !self.delta.is_empty()) || cramped || closing
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
                Err(Need::Page(missing)) => return self.load_for_checkpoint(missing, io) || moved,
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

    /// Take the first changes: what one run says of whole pages goes up, else one page is written.
    fn fold(
        &mut self,
        checkpoint: &mut Checkpoint,
        io: &mut Io<'_, impl Buffers>,
    ) -> Result<(), Need> {
        let Some(&step) = checkpoint.steps.front() else {
            return Ok(());
        };
        if checkpoint.level == self.trees.height() {
            return self.new_root(checkpoint, step);
        }
        let fanout = self.shape.fanout();
        let whole = if step.first.is_multiple_of(fanout) && !step.entry.is_slot() {
            step.count / fanout
        } else {
            0
        };
        if whole > 0 {
            shorten_front(&mut checkpoint.steps, whole * fanout);
            checkpoint.above.push_back(Step {
                first: step.first / fanout,
                count: whole,
                entry: step.entry,
                settled: false,
            });
            return Ok(());
        }
        self.fold_page(checkpoint, step.first / fanout, io)
    }

    /// Write the page of this index anew, with all the changes of its children.
    fn fold_page(
        &mut self,
        checkpoint: &mut Checkpoint,
        index: u64,
        io: &mut Io<'_, impl Buffers>,
    ) -> Result<(), Need> {
        let (shape, layer) = (self.shape, self.superblock.active_layer);
        let node = Node {
            layer,
            level: checkpoint.level,
            index,
        };
        let old = self
            .trees
            .descend(
                layer,
                self.active_root(),
                node.first_chunk(shape),
                node.level + 1,
            )
            .map_err(Need::Page)?;
        let mut entries: Box<[Entry]> = if old.is_slot() {
            let page = self.trees.page(old);
            page.ok_or(Need::Page(Missing { node, entry: old }))?.into()
        } else {
            vec![old; 1 << shape.fanout_shift].into()
        };
        let Some(buffer) = self.page_buffer_for_jobs() else {
            return Err(Need::Buffer);
        };
        if self.space.free() == 0 {
            self.page_buffers.push(buffer);
            return Err(Need::Slot);
        }
        let first = index << shape.fanout_shift;
        while let Some(&step) = checkpoint.steps.front() {
            let end = (first + shape.fanout()).min(step.first + step.count);
            if step.first >= first + shape.fanout() {
                break;
            }
            for child in step.first..end {
                let place = usize::try_from(child - first).unwrap_or(usize::MAX);
                if let Some(place) = entries.get_mut(place) {
                    let old = std::mem::replace(place, step.entry);
                    give_up(checkpoint, node.child(child - first, shape), old, step);
                }
            }
            shorten_front(&mut checkpoint.steps, end - step.first);
        }
        let uniform = [Entry::ABSENT, Entry::ZERO]
            .into_iter()
            .find(|same| entries.iter().all(|entry| entry == same));
        let entry = match uniform {
            Some(entry) => {
                self.page_buffers.push(buffer);
                entry
            }
            None => self.write_tree_page(checkpoint, node, entries, buffer, io)?,
        };
        checkpoint.above.push_back(Step {
            first: index,
            count: 1,
            entry,
            settled: true,
        });
        Ok(())
    }

    fn write_tree_page(
        &mut self,
        checkpoint: &mut Checkpoint,
        node: Node,
        entries: Box<[Entry]>,
        buffer: u32,
        io: &mut Io<'_, impl Buffers>,
    ) -> Result<Entry, Need> {
        let slot = self.space.take().ok_or(Need::Slot)?;
        checkpoint.written.push(slot);
        let span = self.page_span(buffer);
        let crc = tree::encode(
            io.buffers.bytes_mut(span),
            self.shape,
            self.superblock.origin,
            (node, checkpoint.epoch, slot),
            &entries,
        );
        let entry = Entry { slot, crc };
        self.trees.insert(entry, entries);
        let offset = self.shape.offset_bytes(slot);
        let action = Action::WriteCow { offset, from: span };
        checkpoint.outstanding += 1;
        let purpose = Purpose::Job {
            job: Job::Checkpoint,
            buffer: Some(buffer),
        };
        self.command(action, purpose, None, io.out);
        Ok(entry)
    }

    /// The changes have reached the top.
    fn new_root(&mut self, checkpoint: &mut Checkpoint, step: Step) -> Result<(), Need> {
        checkpoint.steps.pop_front();
        let old = self.active_root();
        let node = Node {
            layer: self.superblock.active_layer,
            level: self.trees.height() - 1,
            index: 0,
        };
        give_up(checkpoint, node, old, step);
        checkpoint.root = Some(step.entry);
        Ok(())
    }

    /// List the slots of a subtree that nobody needs any more.
    fn list(&mut self, checkpoint: &mut Checkpoint, subtree: Missing) -> Result<(), Need> {
        let Missing { node, entry } = subtree;
        if self.unreadable.contains(&entry.slot) {
            // Its slots are lost until the next open finds that nobody names them.
            checkpoint.dropped.pop();
            return Ok(());
        }
        let children: Vec<Entry> = self.trees.page(entry).ok_or(Need::Page(subtree))?.to_vec();
        checkpoint.dropped.pop();
        checkpoint.replaced.push(entry.slot);
        for (number, child) in (0..).zip(children).filter(|(_, child)| child.is_slot()) {
            if node.level == 0 {
                checkpoint.replaced.push(child.slot);
            } else {
                checkpoint.dropped.push(Missing {
                    node: node.child(number, self.shape),
                    entry: child,
                });
            }
        }
        Ok(())
    }

    /// A tree page that the checkpoint cannot do without.
    fn load_for_checkpoint(&mut self, missing: Missing, io: &mut Io<'_, impl Buffers>) -> bool {
        if self.unreadable.contains(&missing.entry.slot) {
            // It would have to be written anew, and nobody knows what was in it.
            self.broken = Some(Failure::Io);
            return true;
        }
        if self.loading.contains_key(&missing.entry.slot) {
            return false;
        }
        self.load(missing, None, io.out)
    }

    fn out_of_slots_for_checkpoint(&mut self) -> bool {
        let may_come = self.growing || self.space.grown() < self.max_slots;
        if !may_come {
            self.broken = Some(Failure::NoSpace);
        }
        !may_come
    }

    fn active_root(&self) -> Entry {
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
        let cramped = !self.starved.is_empty();
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

/// What an entry named is not needed any more.
fn give_up(checkpoint: &mut Checkpoint, child: Node, old: Entry, step: Step) {
    if !old.is_slot() || old == step.entry {
        return;
    }
    if checkpoint.level == 0 || step.settled {
        checkpoint.replaced.push(old.slot);
    } else {
        checkpoint.dropped.push(Missing {
            node: child,
            entry: old,
        });
    }
}

/// Take `count` children off the first change.
fn shorten_front(steps: &mut VecDeque<Step>, count: u64) {
    if let Some(step) = steps.front_mut() {
        step.first += count;
        step.count -= count.min(step.count);
        if step.count == 0 {
            steps.pop_front();
        }
    }
}
