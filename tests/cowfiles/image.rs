//! A cowfile's bytes in memory, page by page; pages that are not there are zeros. So an image may say
//! that it is as large as a cowfile can be, and take no room.

use std::collections::BTreeMap;

use cowroot::engine::command::Failure;
use cowroot::engine::cowfile::create::MediumMut;
use cowroot::engine::cowfile::recover::Medium;
use cowroot::engine::format::Shape;

/// Small, so that trees are high and every bit of every page can be tried. A superblock's head takes 8
/// of its 9 slots.
pub(crate) const SMALL: Shape = Shape {
    chunk_shift: 9,
    fanout_shift: 2,
    zone_slots: 9,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) shape: Shape,
    /// Slots that it says it has.
    pub(crate) slots: u32,
    pub(crate) pages: BTreeMap<u32, Vec<u8>>,
}

impl Image {
    pub(crate) fn new(shape: Shape, slots: u32) -> Self {
        Self {
            shape,
            slots,
            pages: BTreeMap::new(),
        }
    }

    /// The page at `slot`, to be changed.
    pub(crate) fn page_mut(&mut self, slot: u32) -> &mut Vec<u8> {
        let len = self.shape.chunk_len();
        self.pages.entry(slot).or_insert_with(|| vec![0; len])
    }

    /// Write anywhere; `at` is a byte from the start of `slot` on.
    pub(crate) fn put(&mut self, slot: u32, at: usize, bytes: &[u8]) {
        let len = self.shape.chunk_len();
        for (at, byte) in (at..).zip(bytes) {
            let page = slot.saturating_add(u32::try_from(at / len).unwrap());
            self.page_mut(page)[at % len] = *byte;
        }
    }

    /// `N` bytes, `at` of them behind the start of `slot`.
    pub(crate) fn get<const N: usize>(&self, slot: u32, at: usize) -> [u8; N] {
        let len = self.shape.chunk_len();
        std::array::from_fn(|more| {
            let page = slot.saturating_add(u32::try_from((at + more) / len).unwrap());
            self.pages
                .get(&page)
                .map_or(0, |page| page[(at + more) % len])
        })
    }

    pub(crate) fn flip(&mut self, slot: u32, bit: usize) {
        self.page_mut(slot)[bit / 8] ^= 1 << (bit % 8);
    }

    /// The bytes of a file that holds it.
    pub(crate) fn to_file(&self) -> Vec<u8> {
        let mut bytes = vec![0; (self.slots as usize) << self.shape.chunk_shift];
        for (&slot, page) in &self.pages {
            let at = (slot as usize) << self.shape.chunk_shift;
            bytes[at..at + page.len()].copy_from_slice(page);
        }
        bytes
    }

    pub(crate) fn of_file(shape: Shape, bytes: &[u8]) -> Self {
        let slots = u32::try_from(bytes.len() >> shape.chunk_shift).unwrap();
        let pages = (0..).zip(bytes.chunks_exact(shape.chunk_len()));
        let pages = pages.filter(|(_, page)| page.iter().any(|&byte| byte != 0));
        Self {
            shape,
            slots,
            pages: pages.map(|(slot, page)| (slot, page.to_vec())).collect(),
        }
    }
}

impl Medium for Image {
    fn slots(&mut self) -> u32 {
        self.slots
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        let count = into.len().div_ceil(self.shape.chunk_len()) as u64;
        if u64::from(slot) + count > u64::from(self.slots) {
            return Err(Failure::Io);
        }
        for (slot, into) in (slot..).zip(into.chunks_mut(self.shape.chunk_len())) {
            match self.pages.get(&slot) {
                Some(page) => into.copy_from_slice(&page[..into.len()]),
                None => into.fill(0),
            }
        }
        Ok(())
    }
}

impl MediumMut for Image {
    fn write(&mut self, slot: u32, from: &[u8]) -> Result<(), Failure> {
        self.put(slot, 0, from);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}
