//! Tree pages: which slot has which chunk, as of the journal's start.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::page::{self, Header, Kind, Origin};
use super::{Entry, Shape};

/// `TreeHead` of docs/format.md.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "docs/format.md has each field's meaning")]
pub struct TreeHead {
    pub header: Header,
    pub index: U64,
    pub level: u8,
    pub layer: u8,
    pub reserved: [u8; 6],
}

/// `Entry` of docs/format.md.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "docs/format.md has each field's meaning")]
pub struct RawEntry {
    pub slot: U32,
    pub crc: U32,
}

/// Which page of which tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Whose tree.
    pub layer: u8,
    /// 0 names chunks.
    pub level: u8,
    /// Among the pages of its level.
    pub index: u64,
}

impl Node {
    /// The first chunk it speaks for.
    #[must_use]
    pub fn first_chunk(&self, shape: Shape) -> u64 {
        let shift = u32::from(shape.fanout_shift) * (u32::from(self.level) + 1);
        // At the top of the highest tree only page 0 exists, and it begins at chunk 0.
        self.index.checked_shl(shift).unwrap_or(0)
    }

    /// Its child of this number, a page of the level below.
    #[must_use]
    pub fn child(&self, number: u64, shape: Shape) -> Self {
        Self {
            layer: self.layer,
            level: self.level.saturating_sub(1),
            index: (self.index << shape.fanout_shift) + number,
        }
    }
}

/// Bytes of a tree page in use.
#[must_use]
pub fn length(shape: Shape) -> usize {
    size_of::<TreeHead>() + (size_of::<RawEntry>() << shape.fanout_shift)
}

/// Write a tree page. Its checksum, for the entry that names it.
pub fn encode(
    bytes: &mut [u8],
    shape: Shape,
    origin: Origin,
    (node, epoch, slot): (Node, u64, u32),
    entries: &[Entry],
) -> u32 {
    bytes.fill(0);
    let length = length(shape);
    let head = TreeHead {
        header: Header::new(Kind::Tree, origin, epoch, slot, length),
        index: node.index.into(),
        level: node.level,
        layer: node.layer,
        reserved: [0; 6],
    };
    if let Ok((place, rest)) = TreeHead::mut_from_prefix(bytes) {
        *place = head;
        for (place, entry) in rest.chunks_exact_mut(size_of::<RawEntry>()).zip(entries) {
            let raw = RawEntry {
                slot: entry.slot.into(),
                crc: entry.crc.into(),
            };
            place.copy_from_slice(raw.as_bytes());
        }
    }
    page::seal(bytes);
    page::checksum(bytes)
}

/// The entries of a tree page, if it is this very one: `crc` is what the entry that names it says.
#[must_use]
pub fn decode(
    bytes: &[u8],
    shape: Shape,
    store: [u8; 16],
    (node, slot, crc): (Node, u32, u32),
) -> Option<Box<[Entry]>> {
    if page::checksum(bytes) != crc {
        return None;
    }
    let header = page::header(bytes, Kind::Tree)?;
    let (head, rest) = TreeHead::ref_from_prefix(bytes).ok()?;
    let fine = header.store == store
        && header.length.get() as usize == length(shape)
        && header.slot.get() == slot
        && (head.index.get(), head.level, head.layer) == (node.index, node.level, node.layer);
    let raw = rest.chunks_exact(size_of::<RawEntry>());
    let entries: Box<[Entry]> = raw
        .take(1 << shape.fanout_shift)
        .filter_map(|bytes| RawEntry::read_from_bytes(bytes).ok())
        .map(|raw| Entry {
            slot: raw.slot.get(),
            crc: raw.crc.get(),
        })
        .collect();
    let are_entries = entries
        .iter()
        .all(|entry| entry.is_slot() || entry.crc == 0);
    (fine && are_entries && entries.len() == 1 << shape.fanout_shift).then_some(entries)
}
