//! What all pages have: a header, and a checksum over everything else.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of a page, after its checksum.
pub const MAGIC: [u8; 4] = *b"COWR";
/// The version of every kind of page so far.
pub const VERSION: u16 = 1;
/// Bytes of a header.
pub const HEADER_LEN: usize = size_of::<Header>();

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// One of the two superblocks.
    Superblock = 1,
    /// A page of the journal.
    Commit = 2,
    /// A page of a layer's tree.
    Tree = 3,
    /// The first slot of a file that continues the cowfile.
    Sibling = 4,
}

/// `Header` of docs/format.md.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "docs/format.md has each field's meaning")]
pub struct Header {
    pub crc: U32,
    pub magic: [u8; 4],
    pub kind: U16,
    pub version: U16,
    pub length: U32,
    pub seq: U64,
    pub incarnation: U64,
    pub store: [u8; 16],
    pub slot: U32,
    pub previous: U32,
    pub flags: U32,
    pub reserved: U32,
}

/// Whose page it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// UUID of the cowfile.
    pub store: [u8; 16],
    /// The open that writes, or wrote.
    pub incarnation: u64,
}

impl Header {
    /// A header without its checksum. `length` is in bytes, header included.
    #[must_use]
    pub fn new(kind: Kind, origin: Origin, seq: u64, slot: u32, length: usize) -> Self {
        Self {
            crc: U32::ZERO,
            magic: MAGIC,
            kind: (kind as u16).into(),
            version: VERSION.into(),
            length: u32::try_from(length).unwrap_or(u32::MAX).into(),
            seq: seq.into(),
            incarnation: origin.incarnation.into(),
            store: origin.store,
            slot: slot.into(),
            previous: U32::ZERO,
            flags: U32::ZERO,
            reserved: U32::ZERO,
        }
    }

    /// Whose page it says it is.
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin {
            store: self.store,
            incarnation: self.incarnation.get(),
        }
    }
}

/// The checksum of a slot's or description's bytes.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Put the checksum into a page that is complete. Returns it.
pub fn seal(page: &mut [u8]) -> u32 {
    let crc = checksum(page.get(4..).unwrap_or_default());
    if let Some(place) = page.first_chunk_mut() {
        *place = crc.to_le_bytes();
    }
    crc
}

/// The page that a sibling file begins with: which file of which cowfile it is, and its slot.
#[must_use]
pub fn sibling(origin: Origin, number: u32, slot: u32, chunk_len: usize) -> Vec<u8> {
    let header = Header::new(Kind::Sibling, origin, number.into(), slot, HEADER_LEN);
    let mut page = header.as_bytes().to_vec();
    page.resize(chunk_len, 0);
    seal(&mut page);
    page
}

/// The header of a page whose checksum is right, if it is of this kind, in a version known here.
#[must_use]
pub fn header(page: &[u8], kind: Kind) -> Option<&Header> {
    let (header, _) = Header::ref_from_prefix(page).ok()?;
    let fine = header.magic == MAGIC
        && header.kind.get() == kind as u16
        && header.version.get() == VERSION
        && header.length.get() as usize <= page.len()
        && header.crc.get() == checksum(page.get(4..)?);
    fine.then_some(header)
}
