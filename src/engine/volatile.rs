//! The volatile store: compact slots in a tmpfs file, overwritten in place, given back when freed.
//!
//! A slot is free, used, or on its way to free: given up, but still read by somebody, or being
//! punched out of the file. Only free slots are handed out, so a read in flight never sees another
//! chunk's data and a punch never hits a new one. Which slots are free is derived from the map.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, Range};
use std::sync::atomic::AtomicU32;

use crate::engine::map::{Damage, MAX_SLOT, Map, Place};
use crate::engine::units::{ChunkIndex, Limits, Slot};

/// Slots punched at once: 4 MiB.
const LONGEST_PUNCH: u32 = 1024;

/// How full a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What it may grow to.
    pub limits: Limits,
    /// Slots that hold data, or did and are not given back yet.
    pub used_slots: u32,
    /// Bytes of shared memory the map takes.
    pub map_bytes: u64,
}

/// The store: map, slots, and who is reading them.
#[derive(Debug)]
pub struct Volatile<W> {
    map: Map<W>,
    limits: Limits,
    /// A bit for each slot that is not free; as long as it ever had to be.
    taken: Vec<u64>,
    taken_count: u32,
    /// No slot below this word of `taken` is free.
    lowest: usize,
    /// Readers of a slot.
    pins: BTreeMap<u32, u32>,
    /// Given up while somebody reads them.
    doomed: BTreeSet<u32>,
    /// Given up and read by nobody; to be punched with the next `take_punches`.
    given_up: BTreeSet<u32>,
    /// Handed out by `take_punches`, not punched yet.
    punching: u32,
}

/// Why no slot was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Slots are on their way to free: try again when one has arrived.
    ForNow,
    /// Somebody has to delete something.
    ForGood,
}

impl<W: Deref<Target = [AtomicU32]>> Volatile<W> {
    /// An empty store for a device of `chunks` chunks; its map in `words`, all zero.
    pub fn create(words: W, chunks: u64, limits: Limits) -> Self {
        Self::with(Map::create(words, chunks), limits)
    }

    /// The store that another process left in `words` and a cowfile of `cowfile_slots` slots.
    ///
    /// Whatever of the file the map does not name is given up, for that process may have died
    /// between writing a slot and naming it, or between freeing one and punching it.
    ///
    /// # Errors
    /// If the words hold no map of this device, or one that names a slot twice or beyond the limits.
    pub fn open(words: W, chunks: u64, limits: Limits, cowfile_slots: u32) -> Result<Self, Damage> {
        let mut slots = BTreeSet::new();
        let mut twice = false;
        let map = Map::open(words, chunks, |slot| twice |= !slots.insert(slot.0))?;
        if twice
            || slots
                .last()
                .is_some_and(|&last| last >= limits.capacity.max(cowfile_slots))
        {
            return Err(Damage::Entry);
        }
        let mut store = Self::with(map, limits);
        for slot in 0..cowfile_slots.max(slots.last().map_or(0, |&last| last + 1)) {
            store.take(slot);
            if !slots.contains(&slot) {
                store.given_up.insert(slot);
            }
        }
        Ok(store)
    }

    fn with(map: Map<W>, limits: Limits) -> Self {
        let capacity = limits.capacity.min(MAX_SLOT);
        let limits = Limits {
            capacity,
            reserve: limits.reserve.min(capacity),
        };
        let (taken, pins, doomed, given_up) = (
            Vec::new(),
            BTreeMap::new(),
            BTreeSet::new(),
            BTreeSet::new(),
        );
        Self {
            map,
            limits,
            taken,
            taken_count: 0,
            lowest: 0,
            pins,
            doomed,
            given_up,
            punching: 0,
        }
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        Usage {
            limits: self.limits,
            used_slots: self.taken_count,
            map_bytes: self.map.used_bytes(),
        }
    }

    /// Where `chunk` is.
    pub fn place(&self, chunk: ChunkIndex) -> Place {
        self.map.get(chunk)
    }

    /// Hand out the lowest free slot, so that the file stays compact.
    pub fn allocate(&mut self, metadata: bool) -> Result<Slot, Full> {
        let limit = self.limits.capacity - if metadata { 0 } else { self.limits.reserve };
        if self.taken_count >= limit {
            let on_their_way =
                !self.doomed.is_empty() || !self.given_up.is_empty() || self.punching > 0;
            return Err(if on_their_way {
                Full::ForNow
            } else {
                Full::ForGood
            });
        }
        let from = self.lowest.min(self.taken.len());
        let found = self
            .taken
            .get(from..)
            .unwrap_or_default()
            .iter()
            .position(|&word| word != u64::MAX);
        let word = found.map_or(self.taken.len(), |at| from + at);
        self.lowest = word;
        let bit = self.taken.get(word).map_or(0, |word| word.trailing_ones());
        let slot = u32::try_from(word).unwrap_or(u32::MAX).saturating_mul(64) + bit;
        self.take(slot);
        Ok(Slot(slot))
    }

    /// Let `chunk` live in `slot`, whose content is complete. It had none before.
    pub fn name(&mut self, chunk: ChunkIndex, slot: Slot) {
        let was = self.map.set_slot(chunk, slot);
        debug_assert!(
            !matches!(was, Place::Slot(_)),
            "a chunk that has a slot is overwritten in place"
        );
    }

    /// Let `chunks` read as zeros and give up their slots.
    pub fn zero(&mut self, chunks: Range<u64>) {
        let mut freed = Vec::new();
        self.map.set_zero(chunks, |slot| freed.push(slot.0));
        for slot in freed {
            self.give_up(slot);
        }
    }

    /// Give up a slot that no chunk names.
    pub fn give_up(&mut self, slot: u32) {
        if self.pins.contains_key(&slot) {
            self.doomed.insert(slot);
        } else {
            self.given_up.insert(slot);
        }
    }

    /// Somebody begins to read these slots.
    pub fn pin(&mut self, slots: Range<u32>) {
        for slot in slots {
            *self.pins.entry(slot).or_default() += 1;
        }
    }

    /// Somebody has read these slots.
    pub fn unpin(&mut self, slots: Range<u32>) {
        for slot in slots {
            let readers = self.pins.get_mut(&slot);
            debug_assert!(readers.is_some(), "only what is pinned is unpinned");
            if let Some(readers) = readers {
                *readers -= 1;
                if *readers == 0 {
                    self.pins.remove(&slot);
                    if self.doomed.remove(&slot) {
                        self.given_up.insert(slot);
                    }
                }
            }
        }
    }

    /// The runs of slots to punch out of the file now, each to be reported to `punched`. None is so
    /// long that a write to the file would notice that it has to wait for it.
    pub fn take_punches(&mut self) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for slot in std::mem::take(&mut self.given_up) {
            self.punching += 1;
            match runs.last_mut() {
                Some(run) if run.end == slot && run.end - run.start < LONGEST_PUNCH => run.end += 1,
                _ => runs.push(slot..slot + 1),
            }
        }
        runs
    }

    /// These slots are holes now, and free.
    pub fn punched(&mut self, slots: Range<u32>) {
        for slot in slots {
            self.punching -= 1;
            let (word, mask) = bit(slot);
            if let Some(bits) = self.taken.get_mut(word) {
                debug_assert!(*bits & mask != 0, "only what was taken is freed");
                *bits &= !mask;
                self.taken_count -= 1;
                self.lowest = self.lowest.min(word);
            }
        }
    }

    fn take(&mut self, slot: u32) {
        let (word, mask) = bit(slot);
        if self.taken.len() <= word {
            self.taken.resize(word + 1, 0);
        }
        if let Some(bits) = self.taken.get_mut(word) {
            *bits |= mask;
            self.taken_count += 1;
        }
    }
}

fn bit(slot: u32) -> (usize, u64) {
    ((slot / 64) as usize, 1 << (slot % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn store(capacity: u32, reserve: u32) -> Volatile<Arc<[AtomicU32]>> {
        let words = (0..Map::<Arc<[AtomicU32]>>::words_needed(1000))
            .map(|_| AtomicU32::new(0))
            .collect();
        Volatile::create(words, 1000, Limits { capacity, reserve })
    }

    #[test]
    fn a_slot_that_is_read_is_not_handed_out_again() {
        let mut store = store(2, 0);
        let slot = store.allocate(false).unwrap();
        store.name(ChunkIndex(0), slot);
        store.pin(0..1);
        store.zero(0..1);
        assert_eq!(store.take_punches(), [], "still read");
        assert_eq!(store.allocate(false), Ok(Slot(1)));
        assert_eq!(store.allocate(false), Err(Full::ForNow));
        store.unpin(0..1);
        assert_eq!(store.take_punches(), vec![Range { start: 0, end: 1 }]);
        assert_eq!(store.allocate(false), Err(Full::ForNow), "not punched yet");
        store.punched(0..1);
        assert_eq!(store.allocate(false), Ok(Slot(0)));
        assert_eq!(store.allocate(false), Err(Full::ForGood));
    }

    #[test]
    fn the_reserve_is_for_metadata_alone() {
        let mut store = store(70, 2);
        for slot in 0..68 {
            assert_eq!(store.allocate(false), Ok(Slot(slot)));
        }
        assert_eq!(store.limits.percent_for_data(store.taken_count), 100);
        assert_eq!(store.allocate(false), Err(Full::ForGood));
        assert_eq!(store.allocate(true), Ok(Slot(68)));
        assert_eq!(store.allocate(true), Ok(Slot(69)));
        assert_eq!(store.allocate(true), Err(Full::ForGood));
    }

    #[test]
    fn slots_given_up_together_are_punched_together() {
        let mut store = store(100, 0);
        for chunk in 0..9 {
            let slot = store.allocate(false).unwrap();
            store.name(ChunkIndex(chunk), slot);
        }
        store.zero(5..6);
        store.zero(1..4);
        store.zero(4..5);
        assert_eq!(store.take_punches(), vec![Range { start: 1, end: 6 }]);
        store.punched(1..6);
        assert_eq!(store.usage().used_slots, 4);
        assert_eq!(store.allocate(false), Ok(Slot(1)), "the lowest free one");
    }
}
