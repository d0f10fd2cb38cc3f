//! Which slots are free, and which one is written next.
//!
//! It is derived from what superblocks, trees and journal name. Until all trees have been read (`learn`), only slots
//! that were never in use are handed out, and those of the extents that the superblock says are free.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::bits::{get, masks, set, words};
use super::mutant::{self, Mutant};
use super::zones::Zones;
use crate::engine::format::Shape;
use crate::engine::format::superblock::{Extent, FREE_EXTENTS};

/// Zones that are looked through for free extents.
const EXTENT_ZONES: usize = 16;

/// The slots of a cowfile.
#[derive(Debug)]
pub struct Space {
    shape: Shape,
    /// Slots of each file; the first of a sibling is its header.
    file_slots: u32,
    /// A bit for each grown slot that is not free.
    used: Vec<u64>,
    /// Slots below are not known to be free yet, but those of `known`.
    unknown_below: u32,
    /// Bits of slots below `unknown_below` whose bits in `used` are as exact as those above.
    known: Vec<u64>,
    /// Bits of slots that are not known to be free, and known to be in use.
    seen: Vec<u64>,
    /// Slots that exist, written and synced.
    grown: u32,
    /// How many are free, and where.
    zones: Zones,
    /// Where the log goes on.
    head: u32,
    /// One past the highest slot that was ever in use.
    high_water: u32,
    /// Readers of a slot.
    pins: BTreeMap<u32, u32>,
    /// Given up while somebody reads them.
    doomed: BTreeSet<u32>,
    /// A slot was marked that was in use already.
    named_twice: bool,
}

impl Space {
    /// Slots `first_slot..grown` exist; those from `unknown_below` on are free.
    #[must_use]
    pub fn new(shape: Shape, file_slots: u32, grown: u32, unknown_below: u32) -> Self {
        let unknown_below = unknown_below.clamp(shape.first_slot(), grown.max(shape.first_slot()));
        let mut space = Self {
            shape,
            file_slots,
            used: Vec::new(),
            unknown_below,
            known: vec![0; words(unknown_below)],
            seen: vec![0; words(unknown_below)],
            grown: 0,
            zones: Zones::new(shape.zone_slots),
            head: unknown_below,
            high_water: unknown_below,
            pins: BTreeMap::new(),
            doomed: BTreeSet::new(),
            named_twice: false,
        };
        space.grow(grown);
        space
    }

    /// More slots exist.
    pub fn grow(&mut self, grown: u32) {
        self.used.resize(words(grown), 0);
        self.zones.reach(grown);
        let known = self.unknown_below.clamp(self.grown, grown.max(self.grown));
        for (word, mask) in masks(self.grown..known) {
            if let Some(used) = self.used.get_mut(word) {
                *used |= mask;
            }
        }
        self.zones.add(known..grown);
        for header in self.headers(known..grown) {
            set(&mut self.used, header, true);
            self.zones.count(header, false);
        }
        self.grown = self.grown.max(grown);
    }

    /// The superblock says that these are free; nothing has been marked yet.
    pub fn know(&mut self, free: &[Extent]) {
        let found = self.shape.first_slot()..self.unknown_below.min(self.grown);
        for extent in free {
            let end = extent.first.saturating_add(extent.slots);
            for slot in extent.first.max(found.start)..end.min(found.end) {
                if !self.is_header(slot) && !get(&self.known, slot) {
                    set(&mut self.known, slot, true);
                    set(&mut self.used, slot, false);
                    self.zones.count(slot, true);
                }
            }
        }
    }

    /// The longest runs of free slots, in the zones with most.
    #[must_use]
    pub fn free_extents(&self) -> Vec<Extent> {
        let zones = self.zones.roomy(EXTENT_ZONES).into_iter();
        let extents = zones.flat_map(|zone| self.extents_in(self.zones.slots(zone)));
        let mut extents: Vec<Extent> = extents.collect();
        extents.sort_unstable_by_key(|extent| std::cmp::Reverse(extent.slots));
        extents.truncate(FREE_EXTENTS);
        extents
    }

    fn extents_in(&self, slots: Range<u32>) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        for slot in slots.start..slots.end.min(self.grown) {
            match extents.last_mut() {
                _ if get(&self.used, slot) => {}
                Some(last) if last.first + last.slots == slot => last.slots += 1,
                _ => extents.push(Extent {
                    first: slot,
                    slots: 1,
                }),
            }
        }
        extents
    }

    /// Whether a slot may be in use without being marked.
    fn is_unknown(&self, slot: u32) -> bool {
        slot < self.unknown_below && !get(&self.known, slot)
    }

    /// A durable page names a slot, so it exists, and all before it, whatever the superblock says.
    pub fn trust(&mut self, slot: u32) {
        if slot >= self.grown {
            self.grow(slot + 1);
        }
    }

    /// Whether a slot could ever have been handed out.
    #[must_use]
    pub fn exists(&self, slot: u32) -> bool {
        (self.shape.first_slot()..self.grown).contains(&slot) && !self.is_header(slot)
    }

    /// Slots that exist.
    #[must_use]
    pub fn grown(&self) -> u32 {
        self.grown
    }

    /// Slots that can be handed out now.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.zones.free()
    }

    /// Slots that could be handed out too if the cowfile grew to `most` slots.
    #[must_use]
    pub fn free_when_grown(&self, most: u32) -> u32 {
        let headers = |slots: u32| slots.div_ceil(self.file_slots);
        let more = most.saturating_sub(self.grown);
        more - (headers(most) - headers(self.grown.min(most))).min(more)
    }

    /// One past the highest slot that was ever in use.
    #[must_use]
    pub fn high_water(&self) -> u32 {
        self.high_water
    }

    /// Whether all trees have been read.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.unknown_below <= self.shape.first_slot()
    }

    /// A slot is in use: something found at an open names it.
    pub fn mark(&mut self, slot: u32) {
        self.high_water = self.high_water.max(slot.saturating_add(1));
        if self.is_unknown(slot) {
            self.named_twice |= get(&self.seen, slot);
            set(&mut self.seen, slot, true);
        } else if slot < self.grown {
            self.named_twice |= get(&self.used, slot);
            if !get(&self.used, slot) {
                set(&mut self.used, slot, true);
                self.zones.count(slot, false);
            }
        }
    }

    /// The same of a slot that may have been handed out since.
    pub fn mark_in_use(&mut self, slot: u32) {
        if self.is_unknown(slot) {
            self.mark(slot);
        }
    }

    /// Trees could not be read whole: what they named is marked again when that is tried again. What is
    /// still read though nobody names it stays.
    pub fn forget_marks(&mut self) {
        self.seen.fill(0);
        self.named_twice = false;
        for slot in &self.doomed {
            let is_unknown = *slot < self.unknown_below && !get(&self.known, *slot);
            set(&mut self.seen, *slot, is_unknown);
        }
    }

    /// Whether two things are said to be in one slot. Freeing one would let the other be overwritten.
    #[must_use]
    pub fn is_named_twice(&self) -> bool {
        self.named_twice
    }

    /// All that is in use has been marked.
    pub fn learn(&mut self) {
        let unknown_below = std::mem::replace(&mut self.unknown_below, self.shape.first_slot());
        let found = self.shape.first_slot()..unknown_below.min(self.grown);
        for header in self.headers(found.clone()) {
            set(&mut self.seen, header, true);
        }
        let (first, last) = (
            self.zones.of(found.start),
            self.zones.of(found.end.max(1) - 1),
        );
        for zone in first..=last {
            let slots = self.zones.slots(zone);
            let slots = slots.start.max(found.start)..slots.end.min(found.end);
            let mut free = 0;
            for (word, mask) in masks(slots) {
                let bits = (self.seen.get(word), self.known.get(word));
                if let (Some(used), (Some(seen), Some(known))) = (self.used.get_mut(word), bits) {
                    let now_free = mask & !seen & !known;
                    *used &= !now_free;
                    free += now_free.count_ones();
                }
            }
            self.zones.add_in(zone, free);
        }
        self.seen = Vec::new();
        self.known = Vec::new();
    }

    /// Hand out a slot: the next in the log's zone, else one of the zone with most room.
    pub fn take(&mut self) -> Option<u32> {
        if self.zones.free() == 0 {
            return None;
        }
        let zone = self.zones.of(self.head);
        let slot = self.next_in(zone, self.head).or_else(|| {
            let zone = self.zones.roomiest(zone)?;
            self.next_in(zone, zone * self.shape.zone_slots)
        })?;
        debug_assert!(
            !self.is_header(slot),
            "a sibling's header is never handed out"
        );
        set(&mut self.used, slot, true);
        self.zones.count(slot, false);
        self.head = slot + 1;
        self.high_water = self.high_water.max(slot + 1);
        Some(slot)
    }

    /// The first free slot of `zone`, not before `from`.
    fn next_in(&self, zone: u32, from: u32) -> Option<u32> {
        if !self.zones.has_room(zone) {
            return None;
        }
        let end = self.zones.slots(zone).end.min(self.grown);
        masks(from..end).find_map(|(word, mask)| {
            let free = !self.used.get(word)? & mask;
            let first = u32::try_from(word).ok()? * 64;
            (free != 0).then(|| first + free.trailing_zeros())
        })
    }

    /// Nobody needs a slot any more; but who reads it now may end in peace.
    pub fn release(&mut self, slot: u32) {
        if self.pins.contains_key(&slot) {
            self.doomed.insert(slot);
        } else if self.is_unknown(slot) {
            set(&mut self.seen, slot, false);
        } else if slot < self.grown {
            debug_assert!(get(&self.used, slot), "only what is used is released");
            if get(&self.used, slot) {
                set(&mut self.used, slot, false);
                self.zones.count(slot, true);
            }
        }
    }

    /// A write failed at a slot: nothing is written to its zone any more.
    pub fn bar(&mut self, slot: u32) {
        self.zones.bar(slot);
    }

    /// Zones that a write failed in may be written again. Whether there were any.
    pub fn unbar(&mut self) -> bool {
        self.zones.unbar()
    }

    /// Somebody begins to read a slot.
    pub fn pin(&mut self, slot: u32) {
        if mutant::is(Mutant::ReadNotPinned) {
            return;
        }
        *self.pins.entry(slot).or_default() += 1;
    }

    /// Somebody has read a slot.
    pub fn unpin(&mut self, slot: u32) {
        let Some(readers) = self.pins.get_mut(&slot) else {
            debug_assert!(
                mutant::is(Mutant::ReadNotPinned),
                "only what is pinned is unpinned"
            );
            return;
        };
        *readers -= 1;
        if *readers == 0 {
            self.pins.remove(&slot);
            if self.doomed.remove(&slot) {
                self.release(slot);
            }
        }
    }

    /// The slots that head a sibling file.
    fn headers(&self, slots: Range<u32>) -> impl Iterator<Item = u32> + use<> {
        let first = slots.start.checked_next_multiple_of(self.file_slots);
        (first.unwrap_or(slots.end)..slots.end).step_by(self.file_slots as usize)
    }

    /// Whether it is the first slot of a sibling file.
    fn is_header(&self, slot: u32) -> bool {
        slot.is_multiple_of(self.file_slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        chunk_shift: 10,
        fanout_shift: 2,
        zone_slots: 8,
    };

    #[test]
    fn the_log_goes_upward_and_then_where_most_room_is() {
        let mut space = Space::new(SHAPE, 1000, 40, 0);
        let taken: Vec<u32> = std::iter::from_fn(|| space.take()).collect();
        assert_eq!(taken, (16..40).collect::<Vec<_>>());
        for slot in [17, 24, 26, 39] {
            space.release(slot);
        }
        let taken: Vec<u32> = std::iter::from_fn(|| space.take()).collect();
        assert_eq!(taken, [24, 26, 39, 17]);
    }

    #[test]
    fn what_is_not_known_to_be_free_is_not_handed_out() {
        let mut space = Space::new(SHAPE, 20, 40, 30);
        space.mark(18);
        space.mark(33);
        let taken: Vec<u32> = std::iter::from_fn(|| space.take()).collect();
        assert_eq!(taken, [30, 31, 32, 34, 35, 36, 37, 38, 39]);
        space.mark(25);
        space.learn();
        let taken: BTreeSet<u32> = std::iter::from_fn(|| space.take()).collect();
        let free: BTreeSet<u32> = (16..30)
            .filter(|slot| ![18, 20, 25].contains(slot))
            .collect();
        assert_eq!(taken, free, "20 is a sibling's header");
    }

    #[test]
    fn what_the_superblock_says_is_free_is_handed_out_before_all_is_known() {
        let mut space = Space::new(SHAPE, 1000, 40, 40);
        assert_eq!(space.take(), None);
        let extent = |first, slots| Extent { first, slots };
        space.know(&[extent(20, 4), extent(22, 3), extent(0, 2), extent(39, 9)]);
        space.mark(21);
        space.mark(30);
        let taken: BTreeSet<u32> = (0..3).filter_map(|_| space.take()).collect();
        assert_eq!((space.free(), taken.len()), (2, 3));
        let first = taken.first().copied().unwrap();
        space.release(first);
        space.learn();
        let rest: BTreeSet<u32> = std::iter::from_fn(|| space.take()).collect();
        let free = (16..40).filter(|slot| ![21, 30].contains(slot));
        let free: BTreeSet<u32> = free
            .filter(|slot| !taken.contains(slot) || *slot == first)
            .collect();
        assert_eq!(rest, free);
    }

    #[test]
    fn the_longest_free_extents_are_told() {
        let mut space = Space::new(SHAPE, 20, 40, 16);
        for slot in [17, 18, 33] {
            space.mark(slot);
        }
        let extents: BTreeSet<(u32, u32)> = space
            .free_extents()
            .iter()
            .map(|e| (e.first, e.slots))
            .collect();
        assert_eq!(
            extents,
            BTreeSet::from([(16, 1), (19, 1), (21, 3), (24, 8), (32, 1), (34, 6)])
        );
    }

    #[test]
    fn a_slot_that_is_read_is_not_handed_out_and_a_barred_zone_is_not_written() {
        let mut space = Space::new(SHAPE, 1000, 24, 0);
        while space.take().is_some() {}
        space.pin(20);
        space.release(20);
        assert_eq!(space.take(), None);
        space.unpin(20);
        assert_eq!((space.free(), space.take()), (1, Some(20)));
        space.grow(32);
        space.release(20);
        space.bar(21);
        assert_eq!((space.free(), space.take()), (8, Some(24)));
        space.release(22);
        assert_eq!(space.free(), 7);
        assert!(space.unbar() && !space.unbar());
        assert_eq!(space.free(), 9);
    }
}
