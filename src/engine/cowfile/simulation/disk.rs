//! The simulated disk: what is durable, what is only written, and what a power cut could leave of it.
//!
//! A write that has ended is seen by every read, and kept apart until a sync. A cut keeps what is
//! durable and any choice of the sectors written since, in any order. A process that dies loses nothing.

use std::collections::BTreeMap;

use crate::engine::command::Failure;
use crate::engine::cowfile::create::MediumMut;
use crate::engine::cowfile::recover::Medium;
use crate::engine::format::Shape;
use crate::engine::simulation::machine::SECTOR;

#[derive(Debug, Clone)]
pub(super) struct Disk {
    shape: Shape,
    durable: Vec<u8>,
    /// Writes since the last sync, in the order they ended.
    written: Vec<(usize, Vec<u8>)>,
    /// What a read sees.
    seen: Vec<u8>,
}

/// What a cut leaves of the writes since the last sync.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    None,
    All,
    Only(usize),
    AllBut(usize),
    /// The first so many, and some sectors of the next.
    Prefix(usize),
    Sectors,
}

impl Disk {
    pub(super) fn new(shape: Shape, slots: u32) -> Self {
        let bytes = vec![0; (slots as usize) << shape.chunk_shift];
        Self {
            shape,
            durable: bytes.clone(),
            written: Vec::new(),
            seen: bytes,
        }
    }

    /// A disk that holds this, durably.
    pub(super) fn holding(shape: Shape, image: Vec<u8>) -> Self {
        Self {
            shape,
            durable: image.clone(),
            written: Vec::new(),
            seen: image,
        }
    }

    pub(super) fn read_at(&self, offset: u64, into: &mut [u8]) -> bool {
        let start = usize::try_from(offset).unwrap();
        let found = self.seen.get(start..start + into.len());
        found.map(|found| into.copy_from_slice(found)).is_some()
    }

    pub(super) fn write_at(&mut self, offset: u64, from: &[u8]) {
        let start = usize::try_from(offset).unwrap();
        assert!(
            start + from.len() <= self.seen.len(),
            "written beyond what was grown"
        );
        self.seen[start..start + from.len()].copy_from_slice(from);
        self.written.push((start, from.to_vec()));
    }

    /// The first `count` of the writes since the last sync are durable. A sync covers what had ended
    /// before it was asked for.
    pub(super) fn sync_first(&mut self, count: usize) {
        for (start, bytes) in self.written.drain(..count) {
            self.durable[start..start + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// A sync failed, and the cache believes that it did not: what was written and not durable is
    /// durable in part, and never will be in whole.
    pub(super) fn drop_writes(&mut self, random: &mut fastrand::Rng) {
        self.durable = self.after(Cut::Sectors, random);
        self.written.clear();
        if random.bool() {
            self.seen = self.durable.clone();
        }
    }

    pub(super) fn unsynced(&self) -> usize {
        self.written.len()
    }

    pub(super) fn grow(&mut self, offset: u64, len: u64) {
        let end = usize::try_from(offset + len).unwrap();
        // What is behind the end that the store trusts may be anything, and is written anew.
        let start = usize::try_from(offset).unwrap();
        for bytes in [&mut self.seen, &mut self.durable] {
            bytes.resize(end.max(bytes.len()), 0);
            bytes[start..end].fill(0);
        }
    }

    /// What a read sees now.
    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// What a cut leaves.
    pub(super) fn after(&self, cut: Cut, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut image = self.durable.clone();
        for (number, (start, bytes)) in self.written.iter().enumerate() {
            let (kept, torn) = match cut {
                Cut::None => (false, false),
                Cut::All => (true, false),
                Cut::Only(one) => (number == one, false),
                Cut::AllBut(one) => (number != one, false),
                Cut::Prefix(count) => (number < count, number == count),
                Cut::Sectors => (false, true),
            };
            for (at, sector) in (*start..).step_by(SECTOR).zip(bytes.chunks(SECTOR)) {
                if kept || (torn && random.bool()) {
                    image[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        image
    }

    /// A cut of a kind that finds something, more often than not.
    pub(super) fn any_cut(&self, random: &mut fastrand::Rng) -> Cut {
        let count = self.written.len();
        let one = if count == 0 {
            0
        } else {
            random.usize(0..count)
        };
        match random.u8(0..8) {
            0 => Cut::None,
            1 => Cut::All,
            2 => Cut::Only(one),
            3 => Cut::AllBut(one),
            4 | 5 => Cut::Prefix(one),
            _ => Cut::Sectors,
        }
    }
}

/// An image, to recover from.
pub(super) struct Image<'a> {
    pub(super) shape: Shape,
    pub(super) bytes: &'a [u8],
}

impl Medium for Image<'_> {
    fn slots(&mut self) -> u32 {
        u32::try_from(self.bytes.len() >> self.shape.chunk_shift).unwrap()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        let start = (slot as usize) << self.shape.chunk_shift;
        let found = self.bytes.get(start..start + into.len());
        into.copy_from_slice(found.ok_or(Failure::Io)?);
        Ok(())
    }
}

impl Medium for Disk {
    fn slots(&mut self) -> u32 {
        u32::try_from(self.seen.len() >> self.shape.chunk_shift).unwrap()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        let (shape, bytes) = (self.shape, &self.seen);
        Image { shape, bytes }.read(slot, into)
    }
}

impl MediumMut for Disk {
    fn write(&mut self, slot: u32, from: &[u8]) -> Result<(), Failure> {
        self.write_at(self.shape.offset_bytes(slot), from);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.sync_first(self.written.len());
        Ok(())
    }
}

/// How often the interesting things happened, by name.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen(pub(super) BTreeMap<&'static str, u64>);

impl Seen {
    pub(super) fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub(super) fn get(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}
