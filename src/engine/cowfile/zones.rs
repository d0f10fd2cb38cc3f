//! How many slots are free in each zone, and where most room is.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

/// Zones of a cowfile.
#[derive(Debug)]
pub(super) struct Zones {
    /// Slots of each.
    size: u32,
    /// Free slots of each.
    room: Vec<u32>,
    /// Zones that a write failed in.
    barred: BTreeSet<u32>,
    /// Free slots in all others.
    free: u32,
}

impl Zones {
    /// None yet.
    pub(super) fn new(size: u32) -> Self {
        Self {
            size,
            room: Vec::new(),
            barred: BTreeSet::new(),
            free: 0,
        }
    }

    /// There are as many as `slots` take.
    pub(super) fn reach(&mut self, slots: u32) {
        self.room.resize(slots.div_ceil(self.size) as usize, 0);
    }

    /// Free slots that may be written.
    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// Which one a slot is in.
    pub(super) fn of(&self, slot: u32) -> u32 {
        slot / self.size
    }

    /// The slots of one; the last of 16 TiB ends where the numbers end.
    pub(super) fn slots(&self, zone: u32) -> Range<u32> {
        zone * self.size..(zone + 1).saturating_mul(self.size)
    }

    /// Whether something can be written there.
    pub(super) fn has_room(&self, zone: u32) -> bool {
        !self.barred.contains(&zone) && self.room.get(zone as usize).is_some_and(|room| *room > 0)
    }

    /// The zone with most free slots; of equals, the first after the log's, so that it goes upward.
    pub(super) fn roomiest(&self, after: u32) -> Option<u32> {
        let count = u32::try_from(self.room.len()).ok()?;
        let order = (1..=count).map(|step| (after + step) % count);
        order
            .filter(|zone| !self.barred.contains(zone))
            .map(|zone| (zone, self.room.get(zone as usize).copied().unwrap_or(0)))
            .filter(|(_, free)| *free > 0)
            .reduce(|best, next| if next.1 > best.1 { next } else { best })
            .map(|(zone, _)| zone)
    }

    /// The `most` zones with most free slots, in any order; an open would go on there, so without those
    /// that a write failed in.
    pub(super) fn roomy(&self, most: usize) -> Vec<u32> {
        let mut zones: Vec<(u32, u32)> = (0..).zip(self.room.iter().copied()).collect();
        zones.retain(|(zone, _)| self.has_room(*zone));
        if zones.len() > most {
            zones.select_nth_unstable_by_key(most, |(_, room)| Reverse(*room));
            zones.truncate(most);
        }
        zones.into_iter().map(|(zone, _)| zone).collect()
    }

    /// A write failed at a slot: nothing is written to its zone any more.
    pub(super) fn bar(&mut self, slot: u32) {
        let zone = self.of(slot);
        if self.barred.insert(zone) {
            self.free -= self.room.get(zone as usize).copied().unwrap_or(0);
        }
    }

    /// Zones that a write failed in may be written again. Whether there were any.
    pub(super) fn unbar(&mut self) -> bool {
        let barred = std::mem::take(&mut self.barred);
        for zone in &barred {
            self.free += self.room.get(*zone as usize).copied().unwrap_or(0);
        }
        !barred.is_empty()
    }

    /// A slot became free, or stopped being it.
    pub(super) fn count(&mut self, slot: u32, free: bool) {
        let zone = self.of(slot);
        let barred = self.barred.contains(&zone);
        if let Some(count) = self.room.get_mut(zone as usize) {
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
    pub(super) fn add(&mut self, slots: Range<u32>) {
        if slots.is_empty() {
            return;
        }
        for zone in self.of(slots.start)..=self.of(slots.end - 1) {
            let within = self.slots(zone);
            self.add_in(
                zone,
                slots.end.min(within.end) - slots.start.max(within.start),
            );
        }
    }

    /// So many slots of a zone became free.
    pub(super) fn add_in(&mut self, zone: u32, free: u32) {
        if let Some(count) = self.room.get_mut(zone as usize) {
            *count += free;
            if !self.barred.contains(&zone) {
                self.free += free;
            }
        }
    }
}
