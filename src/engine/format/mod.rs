//! The persistent cowfile's bytes: docs/format.md, as structs and functions between bytes and values.
//!
//! Nothing here reads or writes a medium, and nothing here trusts a byte: what is not exactly as the
//! page says is `None`, whatever it is.

pub mod check;
pub mod commit;
pub mod description;
mod merge;
pub mod page;
pub mod superblock;
pub mod tree;

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod format_tests;

/// The sizes that a cowfile is built with. A product's are always `Shape::PRODUCT`; simulations use
/// small ones, to see rare cases often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// 2 to this power are the bytes of a chunk, of a slot, and of a page.
    pub chunk_shift: u8,
    /// 2 to this power are the entries of a tree page.
    pub fanout_shift: u8,
    /// Slots of a zone.
    pub zone_slots: u32,
}

impl Shape {
    /// What docs/format.md says.
    pub const PRODUCT: Self = Self {
        chunk_shift: 12,
        fanout_shift: 8,
        zone_slots: 1024,
    };

    /// Bytes of a chunk.
    #[must_use]
    pub fn chunk_bytes(&self) -> u64 {
        1 << self.chunk_shift
    }

    /// The same as the length of a buffer.
    #[must_use]
    pub fn chunk_len(&self) -> usize {
        1 << self.chunk_shift
    }

    /// Entries of a tree page.
    #[must_use]
    pub fn fanout(&self) -> u64 {
        1 << self.fanout_shift
    }

    /// Where a slot begins, in bytes from the cowfile's start.
    #[must_use]
    pub fn offset_bytes(&self, slot: u32) -> u64 {
        u64::from(slot) << self.chunk_shift
    }

    /// Levels of tree pages that `chunks` chunks need.
    #[must_use]
    pub fn height(&self, chunks: u64) -> u8 {
        let mut height = 1;
        // A shift of 64 bits or more: all numbers of chunks are below it.
        let reach = |height| 1_u64.checked_shl(u32::from(self.fanout_shift) * u32::from(height));
        while self.fanout_shift > 0 && reach(height).is_some_and(|reach| chunks > reach) {
            height += 1;
        }
        height
    }

    /// The first slot that is neither a superblock's zone nor before one.
    #[must_use]
    pub fn first_slot(&self) -> u32 {
        2 * self.zone_slots
    }
}

/// The state of an entry of a tree: which slot, and the checksum of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// 0 absent, 1 zeros, else a slot.
    pub slot: u32,
    /// CRC-32C of the slot's bytes; 0 without a slot.
    pub crc: u32,
}

impl Entry {
    /// What is below shows.
    pub const ABSENT: Self = Self { slot: 0, crc: 0 };
    /// Zeros, whatever is below.
    pub const ZERO: Self = Self { slot: 1, crc: 0 };

    /// Whether it names a slot. The first slots are superblocks, so small numbers never do.
    #[must_use]
    pub fn is_slot(&self) -> bool {
        self.slot > Self::ZERO.slot
    }
}
