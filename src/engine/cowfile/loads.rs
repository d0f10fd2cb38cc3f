//! Tree pages: read when somebody asks, and all of them once, to know which slots are free.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::delta::{Change, Delta};
use super::mutant::{self, Mutant};
use super::pending::{Io, Purpose};
use super::runs::{FOR_READERS, buffers_in_a_row, lowest, next_run, run_slots, sort_for_runs};
use super::space::Space;
use super::trees::Missing;
use crate::engine::command::{Action, Buffers, Failure, Outbox, RequestId};
use crate::engine::format::Entry;
use crate::engine::format::superblock::{MAX_LAYERS, Superblock};
use crate::engine::format::tree::{self, Node};

/// Reads of the scan at a time.
const SCANNING: usize = 2;
/// Scans that may fail before the space they would have found is given up.
const SCANS: u32 = 3;

/// Trees on their way through `Space::mark`.
#[derive(Debug)]
pub(super) struct Scan {
    todo: Vec<Missing>,
    /// Pages under way, in so many reads.
    outstanding: usize,
    /// A page did not read.
    failed: bool,
    runs: usize,
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
            let is_seen = || self.superblock.roots().any(|(seen, _)| seen == number);
            if found.root.is_slot() && (!mutant::is(Mutant::OtherLayersFree) || is_seen()) {
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
        let mark = self.marking();
        for missing in &todo {
            mark(&mut self.space, missing.entry.slot);
        }
        if mutant::is(Mutant::TreesNotScanned) {
            return self.space.learn();
        }
        self.refuse_ambiguity();
        self.scan = Some(Scan {
            todo,
            outstanding: 0,
            failed: false,
            runs: 0,
        });
    }

    /// What is done with a slot that a tree names. The trees that were found name none that was handed out since;
    /// those that are scanned after a failure may.
    fn marking(&self) -> fn(&mut Space, u32) {
        match self.failed_scans {
            0 => Space::mark,
            _ => Space::mark_in_use,
        }
    }

    /// Mark anew what is in use and in no tree, for another scan.
    fn mark_again(&mut self) {
        self.space.forget_marks();
        let chunks = self.delta.iter().filter_map(|(_, _, change)| match change {
            Change::Put(entry) => Some(entry.slot),
            Change::Fill(_) => None,
        });
        let pages = self.journal.iter().map(|(_, slot)| *slot);
        // What only the other superblock needs.
        for slot in chunks.chain(pages).chain(self.held.iter().copied()) {
            self.space.mark_in_use(slot);
        }
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
                self.mark_again();
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
        if scan.runs >= SCANNING {
            return false;
        }
        let most = buffers_in_a_row(&mut self.page_buffers);
        let pages = next_run(&mut scan.todo, most, self.superblock.file_slots);
        if pages.is_empty() {
            return false;
        }
        scan.outstanding += pages.len();
        scan.runs += 1;
        self.send_loads(pages, true, io.out);
        true
    }

    /// Read pages that will be wanted soon, as far as there are buffers. Whether any are on their way now
    /// that were not before.
    pub(super) fn load_ahead(&mut self, mut wanted: Vec<Missing>, out: &mut Outbox) -> bool {
        let known = |slot: &u32| self.loading.contains_key(slot) || self.unreadable.contains(slot);
        wanted.retain(|missing| !known(&missing.entry.slot));
        sort_for_runs(&mut wanted);
        let mut moved = false;
        loop {
            let most = buffers_in_a_row(&mut self.page_buffers);
            let pages = next_run(&mut wanted, most, self.superblock.file_slots);
            if pages.is_empty() {
                return moved;
            }
            for missing in &pages {
                self.loading.insert(missing.entry.slot, Vec::new());
            }
            self.send_loads(pages, false, out);
            moved = true;
        }
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
        let Some(buffer) = lowest(&mut self.page_buffers) else {
            return false;
        };
        let slot = missing.entry.slot;
        self.loading.insert(slot, reader.into_iter().collect());
        self.send_load(vec![missing], buffer, false, out);
        true
    }

    /// Read pages of one run at once, into buffers in a row, which there are.
    fn send_loads(&mut self, pages: Vec<Missing>, scan: bool, out: &mut Outbox) {
        let spare = self.page_buffers.len() - run_slots(&pages) as usize;
        if let Some(&buffer) = self.page_buffers.get(spare) {
            self.page_buffers.truncate(spare);
            self.send_load(pages, buffer, scan, out);
        }
    }

    fn send_load(&mut self, pages: Vec<Missing>, buffer: u32, scan: bool, out: &mut Outbox) {
        let Some(first) = pages.first() else { return };
        for missing in &pages {
            self.space.pin(missing.entry.slot);
        }
        let mut into = self.page_span(buffer);
        into.len *= run_slots(&pages) as usize;
        let action = Action::ReadCow {
            offset: self.shape.offset_bytes(first.entry.slot),
            into,
        };
        let purpose = Purpose::Load {
            pages,
            buffer,
            scan,
        };
        self.command(action, purpose, None, out);
    }

    /// A run of tree pages was read, or not.
    pub(super) fn run_loaded(
        &mut self,
        (pages, buffer, scan): (Vec<Missing>, u32, bool),
        result: Result<(), Failure>,
        io: &mut Io<'_, impl Buffers>,
    ) {
        let first = pages.first().map_or(0, |missing| missing.entry.slot);
        let buffers = buffer..buffer + run_slots(&pages);
        let has_page = |buffer: &u32| {
            let slot = first + (buffer - buffers.start);
            pages.iter().any(|missing| missing.entry.slot == slot)
        };
        let spare = buffers.clone().filter(|buffer| !has_page(buffer));
        self.page_buffers.extend(spare);
        // What does not read may be one page, or what is between them.
        let again = result.is_err() && pages.len() > 1;
        if let Some(scan) = self.scan.as_mut().filter(|_| scan) {
            scan.runs = scan.runs - 1 + if again { pages.len() } else { 0 };
        }
        for missing in pages {
            let buffer = buffers.start + (missing.entry.slot - first);
            if again {
                self.send_load(vec![missing], buffer, scan, io.out);
                self.space.unpin(missing.entry.slot);
            } else {
                self.loaded((missing, buffer, scan), result, io);
            }
        }
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
        self.given_up = Some(entry.slot).filter(|slot| self.unreadable.contains(slot));
        for id in self.loading.remove(&entry.slot).unwrap_or_default() {
            self.advance_request(id, io);
        }
        self.given_up = None;
    }

    fn scanned(&mut self, node: Node, entries: Option<Box<[Entry]>>) {
        let mark = self.marking();
        let Some(scan) = &mut self.scan else {
            return;
        };
        scan.outstanding -= 1;
        let Some(entries) = entries else {
            scan.failed = true;
            return;
        };
        let others = scan.todo.len();
        for (number, entry) in (0..).zip(&entries).filter(|(_, entry)| entry.is_slot()) {
            mark(&mut self.space, entry.slot);
            if node.level > 0 {
                scan.todo.push(Missing {
                    node: node.child(number, self.shape),
                    entry: *entry,
                });
            }
        }
        if let Some(children) = scan.todo.get_mut(others..) {
            sort_for_runs(children);
        }
        self.refuse_ambiguity();
    }

    /// Reads are served of a cowfile that names a slot twice, and nothing is written.
    fn refuse_ambiguity(&mut self) {
        if self.space.is_named_twice() {
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
            .then(|| lowest(&mut self.page_buffers))
            .flatten()
    }
}

/// The slots that a superblock, and the journal behind it, leave free; the trees are read later.
pub(super) fn space_of(
    superblock: &Superblock,
    delta: &Delta<Entry>,
    pages: &VecDeque<(u64, u32)>,
    dropped: &[u32],
) -> Space {
    let Superblock {
        shape,
        file_slots,
        grown_slots,
        high_water,
        ..
    } = *superblock;
    let mut space = Space::new(shape, file_slots, grown_slots, high_water);
    space.know(&superblock.free);
    let chunks = delta.iter().filter_map(|(_, _, change)| match change {
        Change::Put(entry) => Some(entry.slot),
        Change::Fill(_) => None,
    });
    let pages = pages.iter().map(|(_, slot)| *slot);
    for slot in pages.chain(chunks).chain(dropped.iter().copied()) {
        space.trust(slot);
        space.mark(slot);
    }
    space
}
