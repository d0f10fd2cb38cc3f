//! Folding: the changes of one level's children into the pages above them, level by level.
//!
//! What one run says of many whole pages goes up as one change, so that forgetting a disk writes a
//! handful of pages.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::checkpoint::Checkpoint;
use super::pending::{Io, Job, Purpose};
use super::trees::Missing;
use crate::engine::command::{Action, Buffers};
use crate::engine::format::Entry;
use crate::engine::format::tree::{self, Node};

/// Pages that are looked for ahead of the one that is needed.
const AHEAD: usize = 32;

/// A change of `count` children of a level, all to the same entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) entry: Entry,
    /// What was below it is accounted for; else all that hangs under the old entries is to be freed.
    pub(super) settled: bool,
}

/// What a step needs before it can go on.
pub(super) enum Need {
    Page(Missing),
    Buffer,
    Slot,
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// Take the first changes: what one run says of whole pages goes up, else one page is written.
    pub(super) fn fold(
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
            None => self.write_tree_page(checkpoint, (node, entries), buffer, io)?,
        };
        checkpoint.above.push_back(Step {
            first: index,
            count: 1,
            entry,
            settled: true,
        });
        Ok(())
    }

    /// Pages that the next steps need and that are not in RAM.
    pub(super) fn wanted_soon(&mut self, checkpoint: &Checkpoint) -> Vec<Missing> {
        // What is read ahead must be there still when it is needed.
        let most = AHEAD.min(self.settings.cached_pages / 4);
        let (layer, root, level) = (
            self.superblock.active_layer,
            self.active_root(),
            checkpoint.level,
        );
        let mut wanted: Vec<Missing> = Vec::new();
        if checkpoint.steps.is_empty() {
            wanted.extend(checkpoint.dropped.iter().rev().take(most));
        }
        let indices = checkpoint
            .steps
            .iter()
            .map(|step| step.first >> self.shape.fanout_shift);
        let mut last = None;
        let indices = indices.filter(|index| last.replace(*index) != Some(*index));
        for index in indices.take(most) {
            let node = Node {
                layer,
                level,
                index,
            };
            let first = node.first_chunk(self.shape);
            match self.trees.descend(layer, root, first, level + 1) {
                Ok(entry) if entry.is_slot() => wanted.push(Missing { node, entry }),
                Ok(_) => {}
                Err(missing) => wanted.push(missing),
            }
        }
        wanted.retain(|missing| self.trees.page(missing.entry).is_none());
        wanted.dedup();
        wanted
    }

    fn write_tree_page(
        &mut self,
        checkpoint: &mut Checkpoint,
        (node, entries): (Node, Box<[Entry]>),
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
    pub(super) fn list(
        &mut self,
        checkpoint: &mut Checkpoint,
        subtree: Missing,
    ) -> Result<(), Need> {
        let Missing { node, entry } = subtree;
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
