//! A walk through all that one reader of a cowfile sees: each slot that is named, and whether it is whole.
//!
//! Memory: a bit for each slot, some thousand names at a time, and one entry for each stretch that is lost.

use std::ops::Range;

use super::bits::Marks;
use super::delta::Change;
use super::reading::Ahead;
use super::recover::{Medium, Recovered};
use super::slots;
use crate::engine::format::tree::{self, Node};
use crate::engine::format::{Entry, Shape, check};

/// Names that are collected, to be read in the order of their slots.
const BATCH: usize = 1 << 16;

/// Who names a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The journal, for a chunk.
    Journal,
    /// A page of a tree, for a chunk.
    Tree,
    /// A tree, for one of its pages: all that is below it is meant.
    Page,
}

/// Chunks of a layer that have something wrong with them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    /// Whose.
    pub layer: u8,
    /// Who names what is wrong.
    pub source: Source,
    /// Which chunks of the device.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The slot, the first of them.
    pub slot: u32,
}

impl Stretch {
    /// Its chunks.
    #[must_use]
    pub fn chunks(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// What a reader sees, by what it is for. In slots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Named {
    /// Chunks that are read.
    pub chunks: u32,
    /// Chunks that trees name and the journal has anew.
    pub superseded: u32,
    /// Pages of trees.
    pub pages: u32,
    /// Pages of the journal, and the one that is reserved.
    pub journal: u32,
}

struct Name {
    entry: Entry,
    layer: u8,
    source: Source,
    chunk: u64,
}

/// What came of a walk.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) marks: Marks,
    pub(super) named: Named,
    /// What does not read, or not as it was written.
    pub(super) lost: Vec<Stretch>,
    /// What is at a slot that somebody else has, too.
    pub(super) twice: Vec<Stretch>,
    /// What is at a slot that the superblock says nobody uses yet.
    pub(super) beyond: Vec<Stretch>,
}

/// On its way.
pub(super) struct Walk<'a, M> {
    medium: &'a mut M,
    found: &'a Recovered,
    /// What the superblock says is free.
    free: Marks,
    /// Chunks there need not be read again.
    known: Option<&'a Marks>,
    /// Chunks are read, not only the pages that name them.
    reads_chunks: bool,
    watch: &'a mut dyn FnMut(u64),
    seen: Seen,
    batch: Vec<Name>,
    ahead: Ahead,
    slots: u32,
}

impl<'a, M: Medium> Walk<'a, M> {
    pub(super) fn new(
        medium: &'a mut M,
        found: &'a Recovered,
        known: Option<&'a Marks>,
        reads_chunks: bool,
        watch: &'a mut dyn FnMut(u64),
    ) -> Self {
        let slots = medium.slots();
        let free = Marks::of(&found.superblock.free, slots);
        Self {
            medium,
            found,
            free,
            known,
            reads_chunks,
            watch,
            seen: Seen::default(),
            batch: Vec::new(),
            ahead: Ahead::default(),
            slots,
        }
    }

    /// Everything: the journal, then all layers' trees.
    pub(super) fn run(mut self) -> Seen {
        let superblock = &self.found.superblock;
        let (shape, chunks) = (superblock.shape, superblock.chunks());
        for &slot in self.found.journal.iter().chain([&self.found.tail.slot]) {
            // Nothing is marked yet, so none is marked twice but by a journal that leads to itself.
            self.seen.named.journal += u32::from(self.seen.marks.mark(slot));
        }
        for (chunk, _, change) in self.found.delta.iter() {
            if let Change::Put(entry) = change {
                self.chunk(superblock.active_layer, Source::Journal, chunk, entry);
            }
        }
        for (layer, root) in (0..).zip(&superblock.layers) {
            if let Some(root) = root.map(|layer| layer.root).filter(Entry::is_slot) {
                let level = shape.height(chunks) - 1;
                let index = 0;
                self.page(
                    Node {
                        layer,
                        level,
                        index,
                    },
                    root,
                );
            }
        }
        self.read_batch();
        for list in [
            &mut self.seen.lost,
            &mut self.seen.twice,
            &mut self.seen.beyond,
        ] {
            join(list);
        }
        self.seen
    }

    fn chunk(&mut self, layer: u8, source: Source, chunk: u64, entry: Entry) {
        let slot = entry.slot;
        let superblock = &self.found.superblock;
        let is_superseded = source == Source::Tree
            && layer == superblock.active_layer
            && self.found.delta.get(chunk).is_some();
        let stretch = Stretch {
            layer,
            source,
            start: chunk,
            end: chunk + 1,
            slot,
        };
        if slot >= self.slots {
            if !is_superseded {
                self.seen.lost.push(stretch);
            }
            return;
        }
        self.claim(&stretch);
        if is_superseded {
            self.seen.named.superseded += 1;
            return;
        }
        self.seen.named.chunks += 1;
        let is_known = self.known.is_some_and(|known| known.has(slot));
        if self.reads_chunks && !is_known {
            self.batch.push(Name {
                entry,
                layer,
                source,
                chunk,
            });
            if self.batch.len() >= BATCH {
                self.read_batch();
            }
        }
    }

    /// A slot is named: by nobody else, and where slots may be in use.
    fn claim(&mut self, stretch: &Stretch) {
        if !self.seen.marks.mark(stretch.slot) {
            self.seen.twice.push(stretch.clone());
        }
        let superblock = &self.found.superblock;
        let end = superblock.high_water.min(superblock.grown_slots);
        let is_free = stretch.slot >= end || self.free.has(stretch.slot);
        if stretch.source != Source::Journal && is_free {
            self.seen.beyond.push(stretch.clone());
        }
    }

    fn page(&mut self, node: Node, entry: Entry) {
        let shape = self.found.superblock.shape;
        let stretch = stretch_of(node, entry, shape, self.found.superblock.chunks());
        if entry.slot < self.slots {
            self.claim(&stretch);
            self.seen.named.pages += 1;
        }
        let Some(entries) = self.entries(node, entry) else {
            self.seen.lost.push(stretch);
            return;
        };
        let first = node.first_chunk(shape);
        for (number, entry) in (0..).zip(entries.iter()) {
            match (entry.is_slot(), node.level) {
                (false, _) => {}
                (true, 0) => self.chunk(node.layer, Source::Tree, first + number, *entry),
                (true, _) => self.page(node.child(number, shape), *entry),
            }
        }
    }

    fn entries(&mut self, node: Node, entry: Entry) -> Option<Box<[Entry]>> {
        let superblock = &self.found.superblock;
        (self.watch)(superblock.shape.chunk_bytes());
        let bytes = self
            .ahead
            .slot(self.medium, superblock.shape, entry.slot)
            .ok()?;
        entries_of(self.found, bytes, node, entry)
    }

    /// Read what was named, in long stretches.
    fn read_batch(&mut self) {
        let mut names = std::mem::take(&mut self.batch);
        let shape = self.found.superblock.shape;
        let entries = names.iter().map(|name| name.entry);
        let mut watch = |chunks: u64| (self.watch)(chunks << shape.chunk_shift);
        let bad = slots::read(self.medium, shape, entries, None, (u32::MAX, &mut watch));
        for name in bad
            .numbers
            .into_iter()
            .filter_map(|number| names.get(number))
        {
            self.seen.lost.push(Stretch {
                layer: name.layer,
                source: name.source,
                start: name.chunk,
                end: name.chunk + 1,
                slot: name.entry.slot,
            });
        }
        names.clear();
        self.batch = names;
    }
}

/// What a tree's page says, if it is this very one and names what can be.
pub(super) fn entries_of(
    found: &Recovered,
    bytes: &[u8],
    node: Node,
    entry: Entry,
) -> Option<Box<[Entry]>> {
    let superblock = &found.superblock;
    let place = (node, entry.slot, entry.crc);
    let entries = tree::decode(bytes, superblock.shape, superblock.origin.store, place)?;
    let possible = |entry: &Entry| !entry.is_slot() || check::is_usable(superblock, entry.slot);
    entries.iter().all(possible).then_some(entries)
}

/// All that is below a page.
pub(super) fn stretch_of(node: Node, entry: Entry, shape: Shape, chunks: u64) -> Stretch {
    let shift = u32::from(shape.fanout_shift) * (u32::from(node.level) + 1);
    let start = node.first_chunk(shape);
    let len = 1_u64.checked_shl(shift).unwrap_or(u64::MAX);
    Stretch {
        layer: node.layer,
        source: Source::Page,
        start,
        end: start.saturating_add(len).min(chunks.max(start)),
        slot: entry.slot,
    }
}

/// Sort, and let neighbours be one.
fn join(list: &mut Vec<Stretch>) {
    list.sort_unstable();
    list.dedup_by(|next, before| {
        let joins =
            (before.layer, before.source, before.end) == (next.layer, next.source, next.start);
        if joins {
            before.end = next.end;
        }
        joins
    });
}
