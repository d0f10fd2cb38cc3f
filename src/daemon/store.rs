//! A store that is ready to be served, whichever it is.

use std::sync::mpsc::Sender;
use std::time::Instant;

use anyhow::Context;

use super::kept::KeptStore;
use super::protocol::CowReport;
use crate::engine::cowfile::Cowfile;
use crate::engine::stack::Stack;
use crate::engine::units::Limits;
use crate::sys::SharedWords;
use crate::ublk::Queue;
use crate::ublk::asks::Asks;
use crate::ublk::counters::Counters;
use crate::ublk::queue::serve;
use crate::ublk::served::Served;

/// A store, and what is known of it.
pub(super) struct Store {
    pub(super) serving: Serving,
    /// Bytes of the device.
    pub(super) device_bytes: u64,
    /// As it is at the start.
    pub(super) limits: Limits,
    /// What does not change.
    pub(super) cow: CowReport,
    /// What somebody should do something about.
    pub(super) warnings: Vec<String>,
    /// For the process that goes on after this one.
    pub(super) kept: KeptStore,
}

/// What the queue's thread is given.
pub(super) enum Serving {
    /// A session in RAM.
    Ram(Box<Served<Stack<SharedWords>>>),
    /// A persistent one.
    Medium(Box<Served<Cowfile<SharedWords>>>),
}

impl Serving {
    /// Whether nothing that is written outlives the machine.
    pub(super) fn is_in_ram(&self) -> bool {
        matches!(self, Self::Ram(_))
    }

    /// Where whoever serves it is asked to change its layers.
    pub(super) fn asks(&self) -> Asks {
        match self {
            Self::Ram(served) => served.asks.clone(),
            Self::Medium(served) => served.asks.clone(),
        }
    }

    /// Look whether one of these devices is gone where something fails, or, from then on, has a medium of another version.
    pub(super) fn mind_loss(&self, (devices, swapped_from): (Vec<(u64, u64)>, Instant)) {
        match self {
            Self::Ram(served) => served.disk.mind_loss(devices, swapped_from),
            Self::Medium(served) => served.disk.mind_loss(devices, swapped_from),
        }
    }

    /// Serve until the device is stopped.
    ///
    /// # Errors
    /// What `queue::serve` says.
    pub(super) fn serve(
        self,
        queue: &Queue,
        counters: &Counters,
        fullness: Sender<u64>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Ram(served) => serve(queue, *served, counters, fullness),
            Self::Medium(served) => serve(queue, *served, counters, fullness),
        }
    }
}

/// A field of /proc/meminfo, in bytes.
pub(super) fn memory_bytes(field: &str) -> anyhow::Result<u64> {
    let memory = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let value = memory
        .lines()
        .find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
    let kibibytes: u64 = value
        .and_then(|value| value.parse().ok())
        .with_context(|| format!("finding {field} in /proc/meminfo"))?;
    Ok(kibibytes * 1024)
}

/// What a file system with a journal of `journal_bytes` needs: that is written through in time, all of
/// it, also where nothing but metadata changes any more.
pub(super) fn reserve_bytes(capacity_bytes: u64, journal_bytes: u64) -> u64 {
    let for_trees = (16 << 20).max(capacity_bytes / 50).min(capacity_bytes / 8);
    for_trees.saturating_add(journal_bytes)
}
