//! The map: which chunk of the device lives in which slot. A radix tree in shared memory.
//!
//! It lives outside the process so that a restarted daemon finds it. There is no other truth: which
//! slots and which nodes are free is derived from it. Each entry is one 32-bit word and every change
//! is one store of one word, made after what it points to is complete, so a process may die between
//! any two stores and the tree is whole.
//!
//! ```text
//! page 0     header: magic, version, chunks of the device (low, high), root entry
//! page n     node n-1: 1024 entries
//! entry      0 absent: look in the base · 1 zero · n: slot n-2 (in a leaf) or node n-2 (above)
//! ```
//!
//! An entry above the leaves may say "absent" or "zero" for everything under it, so forgetting a
//! whole disk is a handful of stores.

use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::engine::units::{ChunkIndex, Slot};

/// Where a chunk's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Never written: the base has it.
    Absent,
    /// All zeros; takes no space and hides the base.
    Zero,
    /// In this slot of the cowfile.
    Slot(Slot),
}

/// Entries of a node.
const FANOUT: u64 = 1024;
const NODE_WORDS: usize = 1024;
const MAGIC: u32 = 0x4d57_4f43; // "COWM" as little-endian machines show it
const VERSION: u32 = 1;

const ABSENT: u32 = 0;
const ZERO: u32 = 1;
const FIRST: u32 = 2;

const HEADER_MAGIC: usize = 0;
const HEADER_VERSION: usize = 1;
const HEADER_CHUNKS: [usize; 2] = [2, 3];
const HEADER_ROOT: usize = 4;

/// The highest slot number an entry can name.
pub const MAX_SLOT: u32 = u32::MAX - FIRST;

/// A radix tree from chunk to place, over words that outlive the process.
#[derive(Debug)]
pub struct Map<W> {
    words: W,
    chunks: u64,
    /// Levels of nodes under the root entry.
    height: u32,
    /// Nodes never used so far start here.
    next_node: u32,
    /// Nodes that were used and are free again.
    free_nodes: Vec<u32>,
}

/// What hangs under the entry at word `at`: `height` levels of nodes, from chunk `first` on.
struct Subtree {
    at: usize,
    height: u32,
    first: u64,
}

/// Why shared memory does not hold a map of this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Not a map, or one of another version.
    Foreign,
    /// A map of a device of another size.
    OtherDevice,
    /// An entry points where nothing can be, or two entries point to one place.
    Entry,
}

impl<W: Deref<Target = [AtomicU32]>> Map<W> {
    /// How many words a map of `chunks` chunks needs at most: 1 MiB for each GiB of the device.
    #[must_use]
    pub fn words_needed(chunks: u64) -> u64 {
        let (mut pages, mut level) = (1, chunks.div_ceil(FANOUT).max(1));
        loop {
            pages += level;
            if level == 1 {
                return pages * FANOUT;
            }
            level = level.div_ceil(FANOUT);
        }
    }

    /// Begin an empty map of a device of `chunks` chunks in `words`, which must be all zero and at
    /// least `words_needed` long.
    pub fn create(words: W, chunks: u64) -> Self {
        assert!(
            words.len() as u64 >= Self::words_needed(chunks),
            "the map's memory is as long as it may need"
        );
        let map = Self {
            words,
            chunks,
            height: height(chunks),
            next_node: 0,
            free_nodes: Vec::new(),
        };
        for (index, half) in HEADER_CHUNKS.into_iter().zip(halves(chunks)) {
            map.word(index).store(half, Ordering::Relaxed);
        }
        map.word(HEADER_VERSION).store(VERSION, Ordering::Relaxed);
        map.word(HEADER_MAGIC).store(MAGIC, Ordering::Release);
        map
    }

    /// Take over a map that another process made, and call `found` for every slot it names.
    ///
    /// # Errors
    /// What is wrong with it; nothing is changed then.
    pub fn open(words: W, chunks: u64, mut found: impl FnMut(Slot)) -> Result<Self, Damage> {
        if (words.len() as u64) < Self::words_needed(chunks) {
            return Err(Damage::OtherDevice);
        }
        let mut map = Self {
            words,
            chunks,
            height: height(chunks),
            next_node: 0,
            free_nodes: Vec::new(),
        };
        let load = |index| map.word(index).load(Ordering::Acquire);
        if (load(HEADER_MAGIC), load(HEADER_VERSION)) != (MAGIC, VERSION) {
            return Err(Damage::Foreign);
        }
        if HEADER_CHUNKS.map(load) != halves(chunks) {
            return Err(Damage::OtherDevice);
        }
        let mut used = vec![false; map.words.len() / NODE_WORDS - 1];
        map.survey(load(HEADER_ROOT), map.height, &mut used, &mut found)?;
        map.next_node = used
            .iter()
            .rposition(|&used| used)
            .map_or(0, |last| node_number(last + 1));
        map.free_nodes = (0..map.next_node)
            .rev()
            .filter(|&node| !used.get(node as usize).copied().unwrap_or(false))
            .collect();
        Ok(map)
    }

    /// Chunks of the device.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Bytes of memory the tree takes now, its header included.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        (u64::from(self.next_node) + 1 - self.free_nodes.len() as u64) * FANOUT * 4
    }

    /// Where `chunk` is.
    #[must_use]
    pub fn get(&self, chunk: ChunkIndex) -> Place {
        let mut entry = self.word(HEADER_ROOT).load(Ordering::Acquire);
        for level in (0..self.height).rev() {
            if entry < FIRST {
                break;
            }
            entry = self
                .word(self.entry_index(entry, level, chunk.0))
                .load(Ordering::Acquire);
        }
        match entry {
            ABSENT => Place::Absent,
            ZERO => Place::Zero,
            slot => Place::Slot(Slot(slot - FIRST)),
        }
    }

    /// Let `chunk` live in `slot`, whose content is complete. Returns where it was.
    pub fn set_slot(&mut self, chunk: ChunkIndex, slot: Slot) -> Place {
        let was = self.get(chunk);
        let mut at = HEADER_ROOT;
        for level in (0..self.height).rev() {
            let node = self.node_under(at);
            at = self.entry_index(node, level, chunk.0);
        }
        self.word(at).store(slot.0 + FIRST, Ordering::Release);
        was
    }

    /// Let all chunks of `range` read as zeros, and call `freed` for every slot that held one.
    ///
    /// Costs a bounded number of stores for a range of any length, plus the slots it frees.
    pub fn set_zero(&mut self, range: Range<u64>, mut freed: impl FnMut(Slot)) {
        debug_assert!(range.end <= self.chunks, "a range lies within its device");
        if !range.is_empty() {
            let whole = Subtree {
                at: HEADER_ROOT,
                height: self.height,
                first: 0,
            };
            self.zero_under(whole, &range, &mut freed);
        }
    }

    /// Zero the part of `range` in a subtree.
    fn zero_under(&mut self, tree: Subtree, range: &Range<u64>, freed: &mut impl FnMut(Slot)) {
        let Subtree { at, height, first } = tree;
        let span = FANOUT.pow(height);
        let end = (first + span).min(self.chunks);
        if range.start <= first && end <= range.end {
            // The new entry first: whoever finds the tree from here on does not see what hung under it.
            let old = self.word(at).swap(ZERO, Ordering::AcqRel);
            self.release(old, height, freed);
            return;
        }
        if self.word(at).load(Ordering::Acquire) == ZERO {
            return;
        }
        let node = self.node_under(at);
        let step = span / FANOUT;
        let from = range.start.saturating_sub(first) / step;
        let to = (range.end - first).div_ceil(step).min(FANOUT);
        for first in (from..to).map(|entry| first + entry * step) {
            let at = self.entry_index(node, height - 1, first);
            self.zero_under(
                Subtree {
                    at,
                    height: height - 1,
                    first,
                },
                range,
                freed,
            );
        }
    }

    /// Give up what an entry pointed to that nothing points to any more.
    fn release(&mut self, entry: u32, height: u32, freed: &mut impl FnMut(Slot)) {
        if entry < FIRST {
            return;
        }
        if height == 0 {
            freed(Slot(entry - FIRST));
            return;
        }
        for index in self.node_words(entry) {
            let child = self.word(index).load(Ordering::Acquire);
            self.release(child, height - 1, freed);
        }
        self.free_nodes.push(entry - FIRST);
    }

    /// The entry of the node under the entry at word `at`, made if there is none.
    fn node_under(&mut self, at: usize) -> u32 {
        let entry = self.word(at).load(Ordering::Acquire);
        if entry >= FIRST {
            return entry;
        }
        let node = self.free_nodes.pop().unwrap_or_else(|| {
            self.next_node += 1;
            self.next_node - 1
        }) + FIRST;
        for index in self.node_words(node) {
            self.word(index).store(entry, Ordering::Relaxed);
        }
        // Linked only now that it says for each chunk what the entry said for all.
        self.word(at).store(node, Ordering::Release);
        node
    }

    fn survey(
        &self,
        entry: u32,
        height: u32,
        used: &mut [bool],
        found: &mut impl FnMut(Slot),
    ) -> Result<(), Damage> {
        if entry < FIRST {
            return Ok(());
        }
        if height == 0 {
            found(Slot(entry - FIRST));
            return Ok(());
        }
        match used.get_mut((entry - FIRST) as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(Damage::Entry),
        }
        self.node_words(entry).try_for_each(|index| {
            self.survey(
                self.word(index).load(Ordering::Acquire),
                height - 1,
                used,
                found,
            )
        })
    }

    /// Index of the word for `chunk` in the node that `entry` names, `level` levels above the leaves.
    fn entry_index(&self, entry: u32, level: u32, chunk: u64) -> usize {
        let within = (chunk / FANOUT.pow(level) % FANOUT) as usize;
        self.node_words(entry).start + within
    }

    /// Indexes of the words of the node that `entry` names.
    fn node_words(&self, entry: u32) -> Range<usize> {
        let start = ((entry - FIRST) as usize + 1) * NODE_WORDS;
        start..start + NODE_WORDS
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "nodes are numbered by this module and checked when a map is opened"
    )]
    fn word(&self, index: usize) -> &AtomicU32 {
        &self.words[index]
    }
}

/// Levels of nodes that `chunks` chunks need.
fn height(chunks: u64) -> u32 {
    let mut height = 1;
    while FANOUT.pow(height) < chunks {
        height += 1;
    }
    height
}

fn halves(chunks: u64) -> [u32; 2] {
    [chunks & u64::from(u32::MAX), chunks >> 32].map(|half| u32::try_from(half).unwrap_or_default())
}

fn node_number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    type Words = Arc<[AtomicU32]>;

    fn memory(chunks: u64) -> Words {
        (0..Map::<Words>::words_needed(chunks))
            .map(|_| AtomicU32::new(0))
            .collect()
    }

    #[test]
    fn memory_is_about_a_mebibyte_a_gibibyte() {
        let chunks_of_64_gib = 64 << 18;
        let bytes = Map::<Words>::words_needed(chunks_of_64_gib) * 4;
        assert!((64 << 20..65 << 20).contains(&bytes), "{bytes}");
        assert_eq!(Map::<Words>::words_needed(1) * 4, 8192);
    }

    #[test]
    fn the_map_agrees_with_a_plain_table_and_survives_its_process() {
        for (seed, chunks) in [
            (1, 1),
            (2, 5),
            (3, 1024),
            (4, 1025),
            (5, 3000),
            (6, 1024 * 1024 + 3),
        ] {
            let mut random = fastrand::Rng::with_seed(seed);
            let words = memory(chunks);
            let mut map = Map::create(words.clone(), chunks);
            let mut model = std::collections::BTreeMap::new();
            let mut used = BTreeSet::new();
            for step in 0..400u32 {
                let start = random.u64(0..chunks);
                if random.u8(0..4) > 0 {
                    let slot = Slot(step);
                    let was = map.set_slot(ChunkIndex(start), slot);
                    let model_was = model
                        .insert(start, Place::Slot(slot))
                        .unwrap_or(Place::Absent);
                    assert_eq!(was, model_was, "seed {seed} step {step}");
                    used.insert(slot);
                    if let Place::Slot(old) = was {
                        used.remove(&old);
                    }
                } else {
                    let end = (start + 1 + random.u64(0..2500)).min(chunks);
                    let mut freed = BTreeSet::new();
                    map.set_zero(start..end, |slot| {
                        assert!(freed.insert(slot), "freed twice")
                    });
                    for chunk in start..end {
                        if let Some(Place::Slot(slot)) = model.insert(chunk, Place::Zero) {
                            assert!(
                                freed.remove(&slot) && used.remove(&slot),
                                "seed {seed} step {step}: not freed"
                            );
                        }
                    }
                    assert!(freed.is_empty(), "freed what nobody gave up");
                }
                if random.u8(0..20) == 0 {
                    let mut found = BTreeSet::new();
                    map = Map::open(words.clone(), chunks, |slot| assert!(found.insert(slot)))
                        .unwrap();
                    assert_eq!(found, used, "seed {seed} step {step}");
                }
                let probe = random.u64(0..chunks);
                assert_eq!(
                    map.get(ChunkIndex(probe)),
                    model.get(&probe).copied().unwrap_or(Place::Absent)
                );
            }
            for (chunk, place) in model {
                assert_eq!(
                    map.get(ChunkIndex(chunk)),
                    place,
                    "seed {seed} chunk {chunk}"
                );
            }
        }
    }

    #[test]
    fn forgetting_a_huge_device_touches_a_handful_of_nodes() {
        let chunks = 60 << 18; // 60 GiB
        let mut map = Map::create(memory(chunks), chunks);
        map.set_zero(1..chunks - 1, |_| panic!("nothing was written"));
        assert!(
            map.used_bytes() <= 6 * 4096,
            "{} bytes for one run",
            map.used_bytes()
        );
        assert_eq!(map.get(ChunkIndex(0)), Place::Absent);
        assert_eq!(map.get(ChunkIndex(chunks / 2)), Place::Zero);
        assert_eq!(map.get(ChunkIndex(chunks - 1)), Place::Absent);
        map.set_zero(0..chunks, |_| panic!("nothing was written"));
        assert_eq!(map.used_bytes(), 4096, "the header alone");
    }

    #[test]
    fn memory_that_holds_no_map_of_this_device_is_refused() {
        let words = memory(3000);
        let open = |words: &Words, chunks| Map::open(words.clone(), chunks, |_| ()).map(|_| ());
        assert_eq!(open(&words, 3000), Err(Damage::Foreign));
        Map::create(words.clone(), 3000).set_slot(ChunkIndex(2999), Slot(9));
        assert_eq!(open(&words, 3000), Ok(()));
        assert_eq!(open(&words, 2999), Err(Damage::OtherDevice));
        assert_eq!(open(&words, 1 << 30), Err(Damage::OtherDevice));
        for damage in [u32::MAX, 400] {
            words[HEADER_ROOT].store(damage, Ordering::Relaxed);
            assert_eq!(open(&words, 3000), Err(Damage::Entry), "root {damage}");
        }
        // A node that points to itself must end the walk, not run it for ever.
        words[HEADER_ROOT].store(FIRST, Ordering::Relaxed);
        words[NODE_WORDS].store(FIRST, Ordering::Relaxed);
        assert_eq!(open(&words, 3000), Err(Damage::Entry));
    }
}
