//! What chance chooses: the base, cowfile and settings a machine begins with, and its requests.

use std::collections::BTreeSet;

use super::disk::Disk;
use super::history::Sectors;
use super::world::{DEPTH, LONGEST, World};
use crate::engine::command::{Op, Request, RequestId};
use crate::engine::cowfile::create::{self, Plan};
use crate::engine::cowfile::{Durability, Settings, WhenFull};
use crate::engine::format::Shape;
use crate::engine::format::page::Origin;
use crate::engine::plan::Geometry;
use crate::engine::simulation::machine::{SECTOR, fill};
use crate::engine::units::Extent;

impl World {
    /// A request anywhere on the device, and what it writes.
    pub(super) fn some_request(&mut self, id: RequestId) -> (Request, u32) {
        let sectors = self.model.len() as u64;
        let start = self.random.u64(0..sectors);
        let len = self.random.u64(1..=(LONGEST as u64).min(sectors - start));
        let (start, len) = match self.random.u8(0..3) {
            // A few hot chunks, as file systems have them.
            0 => (start % 6.min(sectors), 1),
            1 => (start / 2 * 2, len.min(4).div_ceil(2) * 2),
            _ => (start, len),
        };
        let len = len.min(sectors - start);
        let op = match self.random.u8(0..16) {
            0..8 => Op::Write,
            8..11 => Op::Read,
            11 => Op::Discard,
            12 => Op::WriteZeroes,
            _ => Op::Flush,
        };
        let content = match op {
            Op::Write if self.random.u8(0..8) > 0 => {
                self.contents += 1;
                self.contents
            }
            _ => 0,
        };
        let extent = Extent {
            offset: start * 512,
            len: len * 512,
        };
        let metadata = self.random.u8(0..5) == 0;
        (
            Request {
                id,
                op,
                extent,
                metadata,
            },
            content,
        )
    }
}

/// How a store is run: anything that is allowed.
pub(super) fn some_settings(
    random: &mut fastrand::Rng,
    shape: Shape,
    staging_chunks: u32,
    seed: u64,
) -> Settings {
    Settings {
        depth: DEPTH,
        staging_chunks,
        page_buffers: random.u32(4..=8),
        durability: match random.u8(0..4) {
            0 => Durability::Driver,
            _ => Durability::Flush,
        },
        when_full: match random.u8(0..4) {
            0 => WhenFull::Wait,
            _ => WhenFull::Fail,
        },
        journal_pages: random.usize(2..=24),
        journal_chunks: random.usize(4..=80),
        cached_pages: random.usize(4..=20),
        grow_slots: shape.zone_slots * random.u32(1..=3),
        metadata_reserve: random.u32(0..=8),
        random: seed,
    }
}

/// A new cowfile on a disk of its own; at most so many slots, and so many now.
pub(super) fn some_disk(
    random: &mut fastrand::Rng,
    shape: Shape,
    geometry: &Geometry,
    (max_slots, grown_slots): (u32, u32),
) -> Disk {
    let mut disk = Disk::new(shape, grown_slots);
    let plan = Plan {
        origin: Origin {
            store: [7; 16],
            incarnation: 1,
        },
        shape,
        device_bytes: geometry.device_bytes,
        base_bytes: geometry.base_bytes,
        max_slots,
        grown_slots,
        file_slots: random.u32(20..=300),
        description: vec![9; random.usize(0..40)],
    };
    create::create(&mut disk, plan).unwrap();
    disk
}

/// A base with a number in most sectors, and what the device reads as with nothing in its cowfile.
pub(super) fn some_base(random: &mut fastrand::Rng, geometry: &Geometry) -> (Vec<u8>, Sectors) {
    let (base_bytes, device_sectors) = (geometry.base_bytes, geometry.device_bytes / 512);
    let mut base = vec![0; usize::try_from(base_bytes).unwrap()];
    let mut model = Vec::new();
    for (sector, bytes) in (1_000_000u32..).zip(base.chunks_mut(SECTOR)) {
        let whole = bytes.len() == SECTOR && random.u8(0..5) > 0;
        let content = if whole { sector } else { 0 };
        fill(bytes, content);
        model.push(BTreeSet::from([content]));
    }
    model.resize(
        usize::try_from(device_sectors).unwrap(),
        BTreeSet::from([0]),
    );
    (base, model)
}
