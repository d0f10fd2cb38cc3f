//! What the persistent store costs: CPU time, commands, memory, and what an open has to read. It runs
//! on a medium in RAM, so the figures are the engine's own; how long a disk would take is arithmetic.
//!
//! ```text
//! engine-bench [GIB [PART]]          GIB of changes, 16 if not said; part: costs, sequential or scattered
//! engine-bench GIB images FOLDER     images of disks with such stores
//! ```
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a program whose output is the result, and that ends at the first thing that is not as it should be"
)]

#[path = "engine/costs.rs"]
mod costs;
#[path = "engine/images.rs"]
mod images;
#[path = "engine/machine.rs"]
mod machine;
#[path = "engine/medium.rs"]
mod medium;
#[path = "engine/opens.rs"]
mod opens;

use std::process::Command;
use std::time::Duration;

use cowroot::engine::cowfile::create::{self, Plan};
use cowroot::engine::format::page::Origin;
use nix::time::{ClockId, clock_gettime};

use machine::{Machine, SETTINGS, SHAPE};
use medium::{CHUNK, Ram};

/// Which chunks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// One after the other.
    Sequential,
    /// Anywhere on a device four times as large.
    Scattered,
}

/// A device, and the chunks of it that are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) pattern: Pattern,
    /// Chunks of the device, as a power of two.
    bits: u32,
    /// How many are written.
    pub(crate) chunks: u64,
}

impl Load {
    pub(crate) fn of_gib(pattern: Pattern, gib: u64) -> Self {
        let chunks = (gib << 30) / CHUNK as u64;
        assert!(
            chunks.is_power_of_two(),
            "a power of two is easy to scatter"
        );
        Self {
            pattern,
            bits: chunks.trailing_zeros() + 2,
            chunks,
        }
    }

    /// The chunk that the write of this number goes to; each number has its own.
    pub(crate) fn chunk(&self, number: u64) -> u64 {
        let mask = (1 << self.bits) - 1;
        match self.pattern {
            Pattern::Sequential => number & mask,
            Pattern::Scattered => [0x9e37_79b1, 0x85eb_ca6b]
                .iter()
                .fold(number, |mut x, odd| {
                    x ^= x >> (self.bits / 2);
                    x.wrapping_mul(*odd) & mask
                }),
        }
    }

    pub(crate) fn device_bytes(&self) -> u64 {
        (1 << self.bits) * CHUNK as u64
    }

    /// An empty store with room for all of it.
    pub(crate) fn machine(&self) -> Machine {
        self.machine_grown_to(SHAPE.first_slot() + SETTINGS.grow_slots)
    }

    /// Slots that such a store may have.
    pub(crate) fn max_slots(&self) -> u32 {
        u32::try_from(self.chunks + self.chunks / 8).unwrap() + (300 << 10)
    }

    /// The same, with so much of it there from the start.
    pub(crate) fn machine_grown_to(&self, grown: u32) -> Machine {
        let most = self.max_slots();
        let mut medium = Ram::new(most, grown);
        let plan = Plan {
            origin: Origin {
                store: images::STORE,
                incarnation: 1,
            },
            shape: SHAPE,
            device_bytes: self.device_bytes(),
            base_bytes: self.device_bytes(),
            max_slots: most,
            grown_slots: grown,
            file_slots: most,
            description: images::description(self.device_bytes()),
        };
        create::create(&mut medium, plan).unwrap();
        Machine::open(medium, 1)
    }
}

/// CPU time of this thread: nobody else on the machine changes it much.
pub(crate) fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

/// How long something takes, of five times the median.
pub(crate) fn median(mut what: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..5).map(|_| what()).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

/// Nanoseconds for each of `count`.
pub(crate) fn each(all: Duration, count: u64) -> String {
    format!("{} ns", all.as_nanos() as u64 / count)
}

pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Memory of this process that is no file's.
pub(crate) fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

pub(crate) fn title(title: &str, columns: &[&str]) {
    println!("\n{title}\n");
    println!("| {} |", columns.join(" | "));
    println!("|{}", "---|".repeat(columns.len()));
}

pub(crate) fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let gib: u64 = args.first().map_or(16, |gib| gib.parse().unwrap());
    let Some(part) = args.get(1) else {
        // Each in a process of its own: what one gave back to the allocator is not the next one's memory.
        for part in ["costs", "sequential", "scattered"] {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let status = command.args([&gib.to_string(), part]).status().unwrap();
            assert!(status.success(), "the part '{part}' fails");
        }
        return;
    };
    match part.as_str() {
        "costs" => {
            costs::costs();
            costs::commits();
        }
        "sequential" => opens::opens(part, Load::of_gib(Pattern::Sequential, gib)),
        "images" => {
            let folder = args.get(2).unwrap();
            images::images(folder.as_ref(), &Load::of_gib(Pattern::Scattered, gib));
        }
        "scattered" => opens::opens(part, Load::of_gib(Pattern::Scattered, gib)),
        _ => panic!("there is no part '{part}'"),
    }
}
