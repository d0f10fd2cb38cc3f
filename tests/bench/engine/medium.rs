//! A medium in RAM that holds far more than the machine has: of a chunk it keeps eight bytes, from
//! which the rest is made again, and of the store's own pages all.

use cowroot::engine::command::Failure;
use cowroot::engine::cowfile::create::MediumMut;
use cowroot::engine::cowfile::recover::Medium;
use cowroot::engine::format::Shape;
use cowroot::engine::format::page::MAGIC;

pub(crate) const CHUNK: usize = 4096;
/// A mark that numbers a kept page.
const PAGE: u64 = 1 << 63;
/// Pages allocated at a time, so many that the allocator maps them and gives nothing else away.
const BLOCK: usize = 16 << 10;

/// What was asked of the medium.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) reads: u64,
    pub(crate) read_bytes: u64,
    pub(crate) writes: u64,
    pub(crate) write_bytes: u64,
    pub(crate) syncs: u64,
}

impl Counts {
    /// On a disk that takes 1 ms for each read and then reads 30 MB/s.
    pub(crate) fn read_ms(&self) -> f64 {
        self.reads as f64 + self.read_bytes as f64 / 30e3
    }
}

#[derive(Debug)]
pub(crate) struct Ram {
    /// By slot: 0 zeros, a page's number, or what the chunk begins with.
    marks: Vec<u64>,
    slots: u32,
    blocks: Vec<Vec<u8>>,
    free: Vec<u64>,
    pages: u64,
    pub(crate) counts: Counts,
}

/// Fill a chunk so that its first eight bytes tell the rest. The mark has some of its last three bytes
/// zero, so that a chunk never looks like a page.
pub(crate) fn fill(chunk: &mut [u8], mark: u64) {
    if mark == 0 {
        return chunk.fill(0);
    }
    chunk.fill(0xa5);
    for (place, byte) in chunk.iter_mut().zip(mark.to_le_bytes()) {
        *place = byte;
    }
}

impl Ram {
    /// Room for `most` slots, of which `slots` exist.
    pub(crate) fn new(most: u32, slots: u32) -> Self {
        // Written, so that its memory is here from now on.
        let mut marks = vec![1; most as usize];
        marks.fill(0);
        Self {
            marks,
            slots,
            blocks: Vec::new(),
            free: Vec::new(),
            pages: 0,
            counts: Counts::default(),
        }
    }

    /// Bytes of memory that came with pages.
    pub(crate) fn page_bytes(&self) -> u64 {
        self.pages * CHUNK as u64
    }

    pub(crate) fn grow(&mut self, slots: u32) {
        self.slots = self.slots.max(slots);
    }

    fn page(&mut self, number: u64) -> &mut [u8] {
        let number = usize::try_from(number).unwrap();
        let start = number % BLOCK * CHUNK;
        &mut self.blocks[number / BLOCK][start..start + CHUNK]
    }

    fn new_page(&mut self) -> u64 {
        self.free.pop().unwrap_or_else(|| {
            if self.pages.is_multiple_of(BLOCK as u64) {
                self.blocks.push(vec![0; BLOCK * CHUNK]);
            }
            self.pages += 1;
            self.pages - 1
        })
    }

    /// Call `act` with each page that is kept.
    pub(crate) fn each_page(&mut self, mut act: impl FnMut(u32, &[u8])) {
        for slot in 0..self.slots {
            let mark = self.marks[slot as usize];
            if mark & PAGE != 0 {
                act(slot, self.page(mark & !PAGE));
            }
        }
    }

    fn write_slot(&mut self, slot: u32, from: &[u8]) {
        let old = self.marks[slot as usize];
        let is_page = from[4..8] == MAGIC || slot < Shape::PRODUCT.first_slot();
        if old & PAGE != 0 && !is_page {
            self.free.push(old & !PAGE);
        }
        self.marks[slot as usize] = if is_page {
            let number = match old & PAGE {
                0 => self.new_page(),
                _ => old & !PAGE,
            };
            self.page(number).copy_from_slice(from);
            number | PAGE
        } else {
            u64::from_le_bytes(*from.first_chunk().unwrap())
        };
    }
}

impl Medium for Ram {
    fn slots(&mut self) -> u32 {
        self.slots
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        self.counts.reads += 1;
        self.counts.read_bytes += into.len() as u64;
        for (slot, into) in (slot..).zip(into.chunks_mut(CHUNK)) {
            if slot >= self.slots {
                return Err(Failure::Io);
            }
            let mark = self.marks[slot as usize];
            if mark & PAGE == 0 {
                fill(into, mark);
            } else {
                let len = into.len();
                into.copy_from_slice(&self.page(mark & !PAGE)[..len]);
            }
        }
        Ok(())
    }
}

impl MediumMut for Ram {
    fn write(&mut self, slot: u32, from: &[u8]) -> Result<(), Failure> {
        self.counts.writes += 1;
        self.counts.write_bytes += from.len() as u64;
        for (slot, from) in (slot..).zip(from.chunks(CHUNK)) {
            assert!(slot < self.slots, "written beyond what was grown");
            self.write_slot(slot, from);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.counts.syncs += 1;
        Ok(())
    }
}
