//! Tree pages: read when somebody asks, and all of them once, to know which slots are free.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::delta::{Change, Delta};
use super::pending::{Io, Purpose};
use super::space::Space;
use super::trees::Missing;
use crate::engine::command::{Action, Buffers, Failure, Outbox, RequestId};
use crate::engine::format::Entry;
use crate::engine::format::superblock::{MAX_LAYERS, Superblock};
use crate::engine::format::tree::{self, Node};

/// Page buffers that jobs leave to those who read.
const FOR_READERS: usize = 2;
/// Pages the scan reads at a time.
const SCANNING: usize = 1;

/// Trees on their way through `Space::mark`.
#[derive(Debug)]
pub(super) struct Scan {
    todo: Vec<Missing>,
    outstanding: usize,
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    pub(super) fn begin_scan(&mut self) {
        let level = self.trees.height() - 1;
        let mut todo = Vec::new();
        for layer in 0..MAX_LAYERS {
            let found = self.superblock.layers.get(layer).copied().flatten();
            let (Some(found), Ok(number)) = (found, u8::try_from(layer)) else {
                continue;
            };
            if found.root.is_slot() {
                let node = Node {
                    layer: number,
                    level,
                    index: 0,
                };
                todo.push(Missing {
                    node,
                    entry: found.root,
                });
            }
        }
        for missing in &todo {
            self.space.mark(missing.entry.slot);
        }
        self.refuse_ambiguity();
        self.scan = Some(Scan {
            todo,
            outstanding: 0,
        });
    }

    pub(super) fn step_scan(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        let Some(scan) = &mut self.scan else {
            return false;
        };
        if scan.todo.is_empty() && scan.outstanding == 0 {
            self.scan = None;
            self.space.learn();
            return true;
        }
        if scan.outstanding >= SCANNING || self.page_buffers.len() <= FOR_READERS {
            return false;
        }
        let (Some(missing), Some(buffer)) = (scan.todo.pop(), self.page_buffers.pop()) else {
            return false;
        };
        scan.outstanding += 1;
        self.send_load(missing, buffer, true, io.out);
        true
    }

    /// Read a tree page, for `reader` if for anybody. Whether it is on its way now.
    pub(super) fn load(
        &mut self,
        missing: Missing,
        reader: Option<RequestId>,
        out: &mut Outbox,
    ) -> bool {
        if let Some(readers) = self.loading.get_mut(&missing.entry.slot) {
            readers.extend(reader);
            return true;
        }
        let Some(buffer) = self.page_buffers.pop() else {
            return false;
        };
        let slot = missing.entry.slot;
        self.loading.insert(slot, reader.into_iter().collect());
        self.send_load(missing, buffer, false, out);
        true
    }

    fn send_load(&mut self, missing: Missing, buffer: u32, scan: bool, out: &mut Outbox) {
        self.space.pin(missing.entry.slot);
        let action = Action::ReadCow {
            offset: self.shape.offset_bytes(missing.entry.slot),
            into: self.page_span(buffer),
        };
        let purpose = Purpose::Load {
            missing,
            buffer,
            scan,
        };
        self.command(action, purpose, None, out);
    }

    /// A tree page was read, or not.
    pub(super) fn loaded(
        &mut self,
        (missing, buffer, scan): (Missing, u32, bool),
        result: Result<(), Failure>,
        io: &mut Io<'_, impl Buffers>,
    ) {
        let Missing { node, entry } = missing;
        let store = self.superblock.origin.store;
        let bytes = io.buffers.bytes(self.page_span(buffer));
        let possible = |entry: &Entry| !entry.is_slot() || self.space.exists(entry.slot);
        let entries = result
            .ok()
            .and_then(|()| tree::decode(bytes, self.shape, store, (node, entry.slot, entry.crc)))
            .filter(|entries| entries.iter().all(possible));
        self.page_buffers.push(buffer);
        self.space.unpin(entry.slot);
        if scan {
            return self.scanned(node, entries);
        }
        match entries {
            Some(entries) => {
                self.unreadable.remove(&entry.slot);
                self.trees.insert(entry, entries);
            }
            None => drop(self.unreadable.insert(entry.slot)),
        }
        let readable = !self.unreadable.contains(&entry.slot);
        for id in self.loading.remove(&entry.slot).unwrap_or_default() {
            if !readable {
                self.fail(id, Failure::Io);
            }
            self.advance_request(id, io);
        }
    }

    fn scanned(&mut self, node: Node, entries: Option<Box<[Entry]>>) {
        let Some(scan) = &mut self.scan else {
            return;
        };
        scan.outstanding -= 1;
        let Some(entries) = entries else {
            // Which slots are free will never be known, and nothing may be written on a guess.
            self.broken = Some(Failure::Io);
            return;
        };
        for (number, entry) in (0..).zip(&entries).filter(|(_, entry)| entry.is_slot()) {
            self.space.mark(entry.slot);
            if node.level > 0 {
                scan.todo.push(Missing {
                    node: node.child(number, self.shape),
                    entry: *entry,
                });
            }
        }
        self.refuse_ambiguity();
    }

    /// Reads are served of a cowfile that names a slot twice, and nothing is written.
    fn refuse_ambiguity(&mut self) {
        if self.space.is_named_twice() {
            self.broken = Some(Failure::Io);
        }
    }

    /// A page buffer for a job; some are left to those who read.
    pub(super) fn page_buffer_for_jobs(&mut self) -> Option<u32> {
        (self.page_buffers.len() > FOR_READERS)
            .then(|| self.page_buffers.pop())
            .flatten()
    }
}

/// The slots that a superblock, and the journal behind it, leave free; the trees are read later.
pub(super) fn space_of(
    superblock: &Superblock,
    delta: &Delta<Entry>,
    pages: &VecDeque<(u64, u32)>,
) -> Space {
    let Superblock {
        shape,
        file_slots,
        grown_slots,
        high_water,
        ..
    } = *superblock;
    let mut space = Space::new(shape, file_slots, grown_slots, high_water);
    let chunks = delta.iter().filter_map(|(_, _, change)| match change {
        Change::Put(entry) => Some(entry.slot),
        Change::Fill(_) => None,
    });
    for slot in pages.iter().map(|(_, slot)| *slot).chain(chunks) {
        space.trust(slot);
        space.mark(slot);
    }
    space
}
