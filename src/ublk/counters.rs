//! What the queue tells whoever asks, shared with the thread that answers.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::engine::driven::Gauges;
use crate::engine::units::Limits;
use crate::sys;

/// What the queue tells whoever asks, updated after each round.
#[derive(Debug, Default)]
pub struct Counters {
    /// Slots the cowfile may grow to.
    pub capacity_slots: AtomicU32,
    /// Slots of the cowfile that hold data.
    pub used_slots: AtomicU32,
    /// Whether none of these is only not known to be free.
    pub used_is_known: AtomicBool,
    /// Bytes of memory the map takes.
    pub map_bytes: AtomicU64,
    /// Chunks acknowledged and not durable.
    pub staged_chunks: AtomicU32,
    /// The last durable epoch.
    pub epoch: AtomicU64,
    /// When it was seen to be durable, in seconds since 1970; 0 if none was since the start.
    pub committed_s: AtomicU64,
    /// No write succeeds any more.
    pub broken: AtomicBool,
    /// Requests served so far.
    pub requests: AtomicU64,
    /// Requests that ended in an error so far.
    pub failed: AtomicU64,
    /// Requests of a swap area; there should be none.
    pub swap_requests: AtomicU64,
    /// Requests under way.
    pub in_flight: AtomicU32,
    /// Another process goes on where this one ends: a ring that fails is no reason to close the cowfile.
    pub has_heir: AtomicBool,
}

impl Counters {
    /// What is known before anything was served.
    pub fn start(&self, limits: Limits) {
        self.capacity_slots
            .store(limits.capacity, Ordering::Relaxed);
    }

    /// How full it is for data, with so many slots that only metadata may take. What is only not known to be free
    /// fills nothing.
    pub fn used_percent(&self, reserve_slots: u32) -> u64 {
        let limits = Limits {
            capacity: self.capacity_slots.load(Ordering::Relaxed),
            reserve: reserve_slots,
        };
        match self.used_is_known.load(Ordering::Relaxed) {
            true => limits.percent_for_data(self.used_slots.load(Ordering::Relaxed)),
            false => 0,
        }
    }

    /// What was durable before anything was served is no commit of now.
    pub(super) fn begin(&self, gauges: &Gauges) {
        self.in_flight.store(0, Ordering::Relaxed);
        self.epoch.store(gauges.epoch, Ordering::Relaxed);
    }

    /// What a store says of itself after a round.
    pub(super) fn publish(&self, gauges: &Gauges) {
        let relaxed = Ordering::Relaxed;
        self.capacity_slots.store(gauges.limits.capacity, relaxed);
        self.used_slots.store(gauges.used_slots, relaxed);
        self.used_is_known.store(gauges.used_is_known, relaxed);
        self.map_bytes.store(gauges.map_bytes, relaxed);
        self.staged_chunks.store(gauges.staged_chunks, relaxed);
        if self.epoch.swap(gauges.epoch, relaxed) != gauges.epoch {
            self.committed_s.store(sys::now_s(), relaxed);
        }
        if gauges.broken.is_some() && !self.broken.swap(true, relaxed) {
            log::error!(
                "the cowfile's medium fails: reads go on, writes do not; save what you need elsewhere"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_epoch_that_becomes_durable_while_it_serves_is_a_commit() {
        let counters = Counters::default();
        let mut gauges = Gauges {
            limits: Limits {
                capacity: 9,
                reserve: 0,
            },
            used_slots: 1,
            used_is_known: true,
            map_bytes: 0,
            staged_chunks: 0,
            is_dirty: false,
            epoch: 7,
            broken: None,
        };
        counters.begin(&gauges);
        counters.publish(&gauges);
        assert_eq!(counters.committed_s.load(Ordering::Relaxed), 0);
        gauges.epoch = 8;
        counters.publish(&gauges);
        assert!(counters.committed_s.load(Ordering::Relaxed) > 0);
    }
}
