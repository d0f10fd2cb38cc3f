//! Commit pages: the journal's.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Entry;
use super::page::{self, Header, Kind, Origin};
use super::superblock::MAX_LAYERS;

/// The first page of its epoch.
pub const FIRST: u32 = 1;
/// The last page of its epoch.
pub const LAST: u32 = 2;

/// `CommitHead` of docs/format.md.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "docs/format.md has each field's meaning")]
pub struct CommitHead {
    pub header: Header,
    pub epoch: U64,
    pub next: U32,
    pub records: U32,
}

/// `Record` of docs/format.md, without the checksums behind it.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "docs/format.md has each field's meaning")]
pub struct RawRecord {
    pub first_chunk: U64,
    pub count: U32,
    pub first_slot: U32,
    pub kind: u8,
    pub layer: u8,
    pub reserved: U16,
}

const DATA: u8 = 1;
const ZERO: u8 = 2;
const UNMAP: u8 = 3;
/// Bytes of a checksum behind a record.
const CRC_LEN: usize = 4;

/// What a record says of its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// They are in consecutive slots from this one on, with these checksums, one for each chunk.
    Slots(u32, Vec<u32>),
    /// So many are zeros.
    Zero(u32),
    /// Of so many, what is below shows.
    Unmap(u32),
}

/// A record of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The layer it belongs to.
    pub layer: u8,
    /// The first chunk it speaks of.
    pub first_chunk: u64,
    /// What it says.
    pub body: Body,
}

/// A commit page, without what ties it to its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The epoch it belongs to.
    pub epoch: u64,
    /// The slot of the page after it.
    pub next: u32,
    /// `FIRST`, `LAST`.
    pub flags: u32,
    /// What it says.
    pub records: Vec<Record>,
}

/// Where a page of the journal is expected, and after which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its slot.
    pub slot: u32,
    /// Its sequence number.
    pub seq: u64,
    /// Checksum of the page before.
    pub previous: u32,
}

impl Page {
    /// One past the highest slot it names.
    #[must_use]
    pub fn end(&self) -> u32 {
        let ends = self.records.iter().map(|record| match &record.body {
            Body::Slots(first, crcs) => {
                first.saturating_add(u32::try_from(crcs.len()).unwrap_or(u32::MAX))
            }
            Body::Zero(_) | Body::Unmap(_) => 0,
        });
        ends.fold(self.next.saturating_add(1), u32::max)
    }
}

impl Record {
    /// Bytes it takes in a page.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it always takes some bytes")]
    pub fn len(&self) -> usize {
        let crcs = match &self.body {
            Body::Slots(_, crcs) => crcs.len() * CRC_LEN,
            Body::Zero(_) | Body::Unmap(_) => 0,
        };
        size_of::<RawRecord>() + crcs
    }

    /// How many chunks it speaks of.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.body {
            Body::Slots(_, crcs) => crcs.len() as u64,
            Body::Zero(count) | Body::Unmap(count) => u64::from(*count),
        }
    }
}

/// Bytes of records that a page of `page_len` bytes has room for.
#[must_use]
pub fn room(page_len: usize) -> usize {
    page_len - size_of::<CommitHead>()
}

/// Write a commit page. Its checksum, for the page after it. The records fit (`room`).
pub fn encode(bytes: &mut [u8], origin: Origin, link: Link, page: &Page) -> u32 {
    bytes.fill(0);
    let length = size_of::<CommitHead>() + page.records.iter().map(Record::len).sum::<usize>();
    debug_assert!(length <= bytes.len(), "a page's records fit into it");
    let mut header = Header::new(Kind::Commit, origin, link.seq, link.slot, length);
    header.previous = link.previous.into();
    header.flags = page.flags.into();
    let head = CommitHead {
        header,
        epoch: page.epoch.into(),
        next: page.next.into(),
        records: u32::try_from(page.records.len()).unwrap_or(u32::MAX).into(),
    };
    let mut at = put(bytes, 0, head.as_bytes());
    for record in &page.records {
        let (kind, first_slot) = match record.body {
            Body::Slots(slot, _) => (DATA, slot),
            Body::Zero(_) => (ZERO, 0),
            Body::Unmap(_) => (UNMAP, 0),
        };
        let raw = RawRecord {
            first_chunk: record.first_chunk.into(),
            count: u32::try_from(record.count()).unwrap_or(u32::MAX).into(),
            first_slot: first_slot.into(),
            kind,
            layer: record.layer,
            reserved: U16::ZERO,
        };
        at = put(bytes, at, raw.as_bytes());
        if let Body::Slots(_, crcs) = &record.body {
            for crc in crcs {
                at = put(bytes, at, &crc.to_le_bytes());
            }
        }
    }
    page::seal(bytes)
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) -> usize {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
    at + what.len()
}

/// The page and its checksum, if it is the one that `link` expects.
#[must_use]
pub fn decode(bytes: &[u8], origin: Origin, link: Link) -> Option<(Page, u32)> {
    let header = page::header(bytes, Kind::Commit)?;
    let found = Link {
        slot: header.slot.get(),
        seq: header.seq.get(),
        previous: header.previous.get(),
    };
    if found != link || header.origin() != origin {
        return None;
    }
    let bytes = bytes.get(..usize::try_from(header.length.get()).ok()?)?;
    let (head, mut rest) = CommitHead::ref_from_prefix(bytes).ok()?;
    let mut records = Vec::new();
    for _ in 0..head.records.get() {
        let (record, behind) = decode_record(rest)?;
        records.push(record);
        rest = behind;
    }
    let page = Page {
        epoch: head.epoch.get(),
        next: head.next.get(),
        flags: header.flags.get(),
        records,
    };
    rest.is_empty().then(|| (page, header.crc.get()))
}

/// The record at the start of `bytes`, and what is behind it.
fn decode_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (raw, rest) = RawRecord::ref_from_prefix(bytes).ok()?;
    let count = raw.count.get();
    let (body, rest) = match raw.kind {
        DATA => {
            let (crcs, rest) =
                rest.split_at_checked(usize::try_from(count).ok()?.checked_mul(CRC_LEN)?)?;
            let crcs = crcs
                .chunks_exact(CRC_LEN)
                .filter_map(|bytes| Some(u32::from_le_bytes(*bytes.first_chunk()?)))
                .collect();
            raw.first_slot.get().checked_add(count)?;
            (Body::Slots(raw.first_slot.get(), crcs), rest)
        }
        ZERO => (Body::Zero(count), rest),
        UNMAP => (Body::Unmap(count), rest),
        _ => return None,
    };
    raw.first_chunk.get().checked_add(u64::from(count))?;
    let record = Record {
        layer: raw.layer,
        first_chunk: raw.first_chunk.get(),
        body,
    };
    let fine = count > 0
        && usize::from(raw.layer) < MAX_LAYERS
        && (raw.kind == DATA) == (raw.first_slot.get() > Entry::ZERO.slot)
        && (raw.kind == DATA || raw.first_slot.get() == 0);
    fine.then_some((record, rest))
}
