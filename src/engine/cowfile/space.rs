//! Which slots are free, and which one is written next.
//!
//! Nothing of this is stored: it is derived from what superblocks, trees and journal name. Until all
//! trees have been read (`learn`), only slots that were never in use are handed out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::mutant::{self, Mutant};
use crate::engine::format::Shape;

/// The slots of a cowfile.
#[derive(Debug)]
pub struct Space {
    shape: Shape,
    /// Slots of each file; the first of a sibling is its header.
    file_slots: u32,
    /// A bit for each grown slot that is not free.
    used: Vec<u64>,
    /// Slots below are not known to be free yet.
    unknown_below: u32,
    /// Bits of slots below `unknown_below` that are known to be in use.
    seen: Vec<u64>,
    /// Slots that exist, written and synced.
    grown: u32,
    /// Free slots of each zone.
    zones: Vec<u32>,
    /// Free slots in zones that may be written.
    free: u32,
    /// Zones that a write failed in.
    barred: BTreeSet<u32>,
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
            seen: vec![0; words(unknown_below)],
            grown: 0,
            zones: Vec::new(),
            free: 0,
            barred: BTreeSet::new(),
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
        self.zones
            .resize(grown.div_ceil(self.shape.zone_slots) as usize, 0);
        let known = self.unknown_below.clamp(self.grown, grown.max(self.grown));
        for (word, mask) in masks(self.grown..known) {
            if let Some(used) = self.used.get_mut(word) {
                *used |= mask;
            }
        }
        self.add_free(known..grown);
        for header in self.headers(known..grown) {
            set(&mut self.used, header, true);
            self.count(header, false);
        }
        self.grown = self.grown.max(grown);
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
        self.free
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
        if slot < self.unknown_below {
            self.named_twice |= get(&self.seen, slot);
            set(&mut self.seen, slot, true);
        } else if slot < self.grown {
            self.named_twice |= get(&self.used, slot);
            if !get(&self.used, slot) {
                set(&mut self.used, slot, true);
                self.count(slot, false);
            }
        }
    }

    /// The same of a slot that may have been handed out since.
    pub fn mark_in_use(&mut self, slot: u32) {
        if slot < self.unknown_below {
            self.mark(slot);
        }
    }

    /// Trees could not be read whole: what they named is marked again when that is tried again. What is
    /// still read though nobody names it stays.
    pub fn forget_marks(&mut self) {
        self.seen.fill(0);
        self.named_twice = false;
        for slot in &self.doomed {
            set(&mut self.seen, *slot, *slot < self.unknown_below);
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
        let (first, last) = (self.zone(found.start), self.zone(found.end.max(1) - 1));
        for zone in first..=last {
            let slots = self.zone_slots(zone);
            let slots = slots.start.max(found.start)..slots.end.min(found.end);
            let mut free = 0;
            for (word, mask) in masks(slots) {
                if let (Some(used), Some(seen)) = (self.used.get_mut(word), self.seen.get(word)) {
                    *used &= !mask | seen;
                    free += (mask & !seen).count_ones();
                }
            }
            self.count_many(zone, free);
        }
        self.seen = Vec::new();
    }

    /// Hand out a slot: the next in the log's zone, else one of the zone with most room.
    pub fn take(&mut self) -> Option<u32> {
        if self.free == 0 {
            return None;
        }
        let zone = self.zone(self.head);
        let slot = self.next_in(zone, self.head).or_else(|| {
            let zone = self.roomiest(zone)?;
            self.next_in(zone, zone * self.shape.zone_slots)
        })?;
        debug_assert!(
            !self.is_header(slot),
            "a sibling's header is never handed out"
        );
        set(&mut self.used, slot, true);
        self.count(slot, false);
        self.head = slot + 1;
        self.high_water = self.high_water.max(slot + 1);
        Some(slot)
    }

    /// The first free slot of `zone`, not before `from`.
    fn next_in(&self, zone: u32, from: u32) -> Option<u32> {
        if self.barred.contains(&zone) || *self.zones.get(zone as usize)? == 0 {
            return None;
        }
        // The last zone of 16 TiB ends where the numbers end.
        let end = (zone + 1)
            .saturating_mul(self.shape.zone_slots)
            .min(self.grown);
        masks(from..end).find_map(|(word, mask)| {
            let free = !self.used.get(word)? & mask;
            let first = u32::try_from(word).ok()? * 64;
            (free != 0).then(|| first + free.trailing_zeros())
        })
    }

    /// The zone with most free slots; of equals, the first after the log's, so that it goes upward.
    fn roomiest(&self, after: u32) -> Option<u32> {
        let count = u32::try_from(self.zones.len()).ok()?;
        let order = (1..=count).map(|step| (after + step) % count);
        order
            .filter(|zone| !self.barred.contains(zone))
            .map(|zone| (zone, self.zones.get(zone as usize).copied().unwrap_or(0)))
            .filter(|(_, free)| *free > 0)
            .reduce(|best, next| if next.1 > best.1 { next } else { best })
            .map(|(zone, _)| zone)
    }

    /// Nobody needs a slot any more; but who reads it now may end in peace.
    pub fn release(&mut self, slot: u32) {
        if self.pins.contains_key(&slot) {
            self.doomed.insert(slot);
        } else if slot < self.unknown_below {
            set(&mut self.seen, slot, false);
        } else if slot < self.grown {
            debug_assert!(get(&self.used, slot), "only what is used is released");
            if get(&self.used, slot) {
                set(&mut self.used, slot, false);
                self.count(slot, true);
            }
        }
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

    /// A write failed at a slot: nothing is written to its zone any more.
    pub fn bar(&mut self, slot: u32) {
        let zone = self.zone(slot);
        if self.barred.insert(zone) {
            self.free -= self.zones.get(zone as usize).copied().unwrap_or(0);
        }
    }

    /// Zones that a write failed in may be written again. Whether there were any.
    pub fn unbar(&mut self) -> bool {
        let barred = std::mem::take(&mut self.barred);
        for zone in &barred {
            self.free += self.zones.get(*zone as usize).copied().unwrap_or(0);
        }
        !barred.is_empty()
    }

    /// A slot became free, or stopped being it.
    fn count(&mut self, slot: u32, free: bool) {
        let zone = self.zone(slot);
        let barred = self.barred.contains(&zone);
        if let Some(count) = self.zones.get_mut(zone as usize) {
            let step = |count: &mut u32| match free {
                true => *count += 1,
                false => *count -= 1,
            };
            step(count);
            if !barred {
                step(&mut self.free);
            }
        }
    }

    /// Slots that were not there, or not known, are free.
    fn add_free(&mut self, slots: Range<u32>) {
        if slots.is_empty() {
            return;
        }
        for zone in self.zone(slots.start)..=self.zone(slots.end - 1) {
            let within = self.zone_slots(zone);
            self.count_many(
                zone,
                slots.end.min(within.end) - slots.start.max(within.start),
            );
        }
    }

    /// So many slots of a zone became free.
    fn count_many(&mut self, zone: u32, free: u32) {
        if let Some(count) = self.zones.get_mut(zone as usize) {
            *count += free;
            if !self.barred.contains(&zone) {
                self.free += free;
            }
        }
    }

    fn zone_slots(&self, zone: u32) -> Range<u32> {
        let size = self.shape.zone_slots;
        zone * size..(zone + 1).saturating_mul(size)
    }

    /// The slots that head a sibling file.
    fn headers(&self, slots: Range<u32>) -> impl Iterator<Item = u32> + use<> {
        let first = slots.start.checked_next_multiple_of(self.file_slots);
        (first.unwrap_or(slots.end)..slots.end).step_by(self.file_slots as usize)
    }

    fn zone(&self, slot: u32) -> u32 {
        slot / self.shape.zone_slots
    }

    /// Whether it is the first slot of a sibling file.
    fn is_header(&self, slot: u32) -> bool {
        slot.is_multiple_of(self.file_slots)
    }
}

fn words(slots: u32) -> usize {
    slots.div_ceil(64) as usize
}

/// The words that have bits of these slots, and which.
fn masks(slots: Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    let words = match slots.is_empty() {
        true => 0..0,
        false => slots.start / 64..slots.end.div_ceil(64),
    };
    words.map(move |word| {
        let from = slots.start.saturating_sub(word * 64);
        let behind = (word * 64 + 63).saturating_sub(slots.end - 1);
        (word as usize, u64::MAX << from & u64::MAX >> behind)
    })
}

fn get(bits: &[u64], slot: u32) -> bool {
    bits.get(slot as usize / 64)
        .is_some_and(|word| word >> (slot % 64) & 1 == 1)
}

fn set(bits: &mut [u64], slot: u32, used: bool) {
    if let Some(word) = bits.get_mut(slot as usize / 64) {
        let mask = 1 << (slot % 64);
        match used {
            true => *word |= mask,
            false => *word &= !mask,
        }
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
