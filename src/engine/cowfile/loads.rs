//! Tree pages: read when somebody asks, and all of them once, to know which slots are free.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::delta::{Change, Delta};
use super::mutant::{self, Mutant};
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
/// Scans that may fail before the space they would have found is given up.
const SCANS: u32 = 3;

/// Trees on their way through `Space::mark`.
#[derive(Debug)]
pub(super) struct Scan {
    todo: Vec<Missing>,
    outstanding: usize,
    /// A page did not read.
    failed: bool,
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
        // What only the other superblock needs is in no tree.
        let roots = todo.iter().map(|missing| missing.entry.slot);
        for slot in roots.chain(self.held.iter().copied()) {
            self.space.mark(slot);
        }
        if mutant::is(Mutant::TreesNotScanned) {
            return self.space.learn();
        }
        self.refuse_ambiguity();
        self.scan = Some(Scan {
            todo,
            outstanding: 0,
            failed: false,
        });
    }

    /// Whether trees that could not be read whole may be tried again, because room is short.
    pub(super) fn may_scan_again(&self) -> bool {
        self.scan.is_none() && !self.space.is_known() && self.failed_scans < SCANS
    }

    pub(super) fn step_scan(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        let Some(scan) = &mut self.scan else {
            let needed = self.short || !self.starved.is_empty();
            let again = needed && !self.has_jobs() && !self.trouble && self.may_scan_again();
            if again {
                self.begin_scan();
            }
            return again;
        };
        if scan.todo.is_empty() && scan.outstanding == 0 {
            // Unless all was read nothing may be written on a guess: but where nothing ever was.
            match scan.failed {
                true => self.failed_scans += 1,
                false => self.space.learn(),
            }
            self.scan = None;
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
            scan.failed = true;
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
        // A scan that is tried again marks again what it had found.
        if self.space.is_named_twice() && self.failed_scans == 0 {
            self.broken = Some(Failure::Io);
        }
    }

    /// Let those go on that waited for a page buffer, as far as there are any.
    pub(super) fn step_unbuffered(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        let mut moved = false;
        while !self.page_buffers.is_empty()
            && let Some(id) = self.unbuffered.pop_front()
        {
            moved = true;
            self.advance_request(id, io);
        }
        moved
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
