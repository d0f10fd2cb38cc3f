//! The bytes of an undo log: a head, and records. docs/format.md has them.

use super::{BaseMut, Side, Stopped};
use crate::engine::format::page;

/// What a log begins with, and each of its records.
const MAGIC: [u8; 8] = *b"COWRUNDO";
/// What a record begins with.
const RECORD_MAGIC: [u8; 8] = *b"COWRKEPT";
/// The version written here.
const VERSION: u32 = 1;
/// Everything in a log begins at a multiple of this.
pub(super) const ALIGN: u64 = 4096;
/// Bytes of a head before its lists.
const HEAD: usize = 64;
/// Bytes that a list of stretches, or a description, has at most.
const MOST_LISTED: u64 = 16 << 20;
/// Bytes that one record keeps at most.
const MOST_KEPT: u64 = 1 << 30;

/// Why a log is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLog {
    /// It does not begin like one.
    NotALog,
    /// It was written by another version of cowroot.
    Version(u32),
    /// A record is not whole, and there are more behind it.
    Damaged {
        /// Where.
        offset: u64,
    },
    /// It is of another merge, or cowfile.
    Other,
}

/// What a log says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The cowfile's UUID.
    pub store: [u8; 16],
    /// Which merge.
    pub id: u64,
    /// Bytes of a chunk, as a power of two.
    pub chunk_shift: u8,
    /// Size of the base before.
    pub base_bytes: u64,
    /// The cowfile's description before, and so the base's identity.
    pub description: Vec<u8>,
    /// Where base and cowfile were, each with a NUL behind it.
    pub paths: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) chunk: u64,
    pub(super) count: u64,
    pub(super) is_zero: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) kept: Vec<Kept>,
    /// The new description, where the merge is over.
    pub(super) description: Vec<u8>,
    pub(super) is_end: bool,
    /// Where its data is in the log, and where the next record begins.
    pub(super) data: u64,
    pub(super) end: u64,
}

impl Head {
    pub(super) fn base_chunks(&self) -> u64 {
        self.base_bytes.div_ceil(1 << self.chunk_shift)
    }

    /// Bytes of these chunks, as far as the base went.
    pub(super) fn base_len(&self, kept: &Kept) -> u64 {
        let start = kept.chunk << self.chunk_shift;
        let end = (kept.chunk + kept.count) << self.chunk_shift;
        end.min(self.base_bytes).saturating_sub(start)
    }
}

/// The record that begins there, if a whole one of this log does.
pub(super) fn read_record(
    file: &mut impl BaseMut,
    head: &Head,
    at: u64,
) -> Result<Option<Record>, Stopped> {
    let size_bytes = file.size_bytes();
    if at.saturating_add(HEAD as u64) > size_bytes {
        return Ok(None);
    }
    let mut begins = [0; HEAD];
    file.read(at, &mut begins)
        .map_err(Side::Log.failed("reading", at))?;
    let number = |from: usize| le64(&begins, from);
    let (listed, data_bytes) = (number(32), number(40));
    let is_one = begins.starts_with(&RECORD_MAGIC)
        && number(16) == head.id
        && listed <= MOST_LISTED
        && data_bytes <= MOST_KEPT;
    if !is_one {
        return Ok(None);
    }
    let data = at + (HEAD as u64 + listed).next_multiple_of(ALIGN);
    let end = (data + data_bytes).next_multiple_of(ALIGN);
    if end > size_bytes {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(end - at).unwrap_or(0)];
    file.read(at, &mut bytes)
        .map_err(Side::Log.failed("reading", at))?;
    let sum = bytes.get(16..).map(page::checksum);
    if sum.map(u64::from) != Some(number(8)) {
        return Ok(None);
    }
    let is_end = number(48) != 0;
    let lists = bytes.get(HEAD..).unwrap_or_default();
    let lists = lists.get(..usize::try_from(listed).unwrap_or(0));
    let lists = lists.unwrap_or_default();
    let record = Record {
        seq: number(24),
        kept: if is_end {
            Vec::new()
        } else {
            decode_kept(lists)
        },
        description: if is_end { lists.to_vec() } else { Vec::new() },
        is_end,
        data,
        end,
    };
    let chunks = head.base_chunks();
    let fits = record
        .kept
        .iter()
        .all(|kept| kept.count > 0 && kept.chunk < chunks && kept.count <= chunks - kept.chunk);
    if !fits {
        return Ok(None);
    }
    let whole = record.kept.iter().filter(|kept| !kept.is_zero);
    let mut lengths = whole.map(|kept| head.base_len(kept));
    let named = lengths.try_fold(0_u64, u64::checked_add);
    Ok((named == Some(data_bytes)).then_some(record))
}

fn le64(bytes: &[u8], from: usize) -> u64 {
    let word = bytes.get(from..).and_then(|bytes| bytes.first_chunk());
    u64::from_le_bytes(word.copied().unwrap_or_default())
}

/// Put numbers of 64 bits one behind the other.
fn put(bytes: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
}

/// Bytes before what `sealed` seals.
const SEAL: usize = 16;

/// Zeros, so that with the seal before it it ends where something can begin.
fn pad(rest: &mut Vec<u8>) {
    let align = usize::try_from(ALIGN).unwrap_or(1);
    rest.resize((rest.len() + SEAL).next_multiple_of(align) - SEAL, 0);
}

/// Behind the first 16 bytes: magic, and a checksum of the rest.
fn sealed(magic: [u8; 8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    put(&mut bytes, &[page::checksum(rest).into()]);
    bytes.extend_from_slice(rest);
    bytes
}

pub(super) fn encode_head(head: &Head) -> Vec<u8> {
    let mut rest = Vec::new();
    put(
        &mut rest,
        &[
            u64::from(VERSION) | u64::from(head.chunk_shift) << 32,
            head.id,
        ],
    );
    rest.extend_from_slice(&head.store);
    put(
        &mut rest,
        &[
            head.base_bytes,
            head.description.len() as u64 | (head.paths.len() as u64) << 32,
        ],
    );
    rest.extend_from_slice(&head.description);
    rest.extend_from_slice(&head.paths);
    pad(&mut rest);
    sealed(MAGIC, &rest)
}

pub(super) fn read_head(file: &mut impl BaseMut) -> Result<(Head, u64), Stopped> {
    let none = || Stopped::Log(BadLog::NotALog);
    let mut head = [0; HEAD];
    let size_bytes = file.size_bytes();
    if size_bytes < ALIGN {
        return Err(none());
    }
    file.read(0, &mut head)
        .map_err(Side::Log.failed("reading", 0))?;
    let (description_bytes, path_bytes) =
        (le64(&head, 56) & u64::from(u32::MAX), le64(&head, 56) >> 32);
    if !head.starts_with(&MAGIC) || description_bytes.max(path_bytes) > MOST_LISTED {
        return Err(none());
    }
    let end = (HEAD as u64 + description_bytes + path_bytes).next_multiple_of(ALIGN);
    if end > size_bytes {
        return Err(none());
    }
    let mut bytes = vec![0; usize::try_from(end).unwrap_or(0)];
    file.read(0, &mut bytes)
        .map_err(Side::Log.failed("reading", 0))?;
    let sum = bytes.get(16..).map(page::checksum).map(u64::from);
    if sum != Some(le64(&bytes, 8)) {
        return Err(none());
    }
    let version = u32::try_from(le64(&bytes, 16) & u64::from(u32::MAX)).unwrap_or(0);
    if version != VERSION {
        return Err(Stopped::Log(BadLog::Version(version)));
    }
    let chunk_shift = u8::try_from(le64(&bytes, 16) >> 32).unwrap_or(u8::MAX);
    let base_bytes = le64(&bytes, 48);
    if !(9..=16).contains(&chunk_shift) || base_bytes >= 1 << 62 {
        return Err(none());
    }
    let store = bytes.get(32..48).and_then(|store| store.first_chunk());
    let texts = bytes.get(HEAD..).unwrap_or_default();
    let len = |bytes: u64| usize::try_from(bytes).unwrap_or(0);
    let (description, texts) = texts.split_at(texts.len().min(len(description_bytes)));
    let paths = texts.get(..len(path_bytes)).unwrap_or_default();
    let head = Head {
        store: store.copied().unwrap_or_default(),
        id: le64(&bytes, 24),
        chunk_shift,
        base_bytes,
        description: description.to_vec(),
        paths: paths.to_vec(),
    };
    Ok((head, end))
}

/// The bytes of a record, and where in them its data begins.
pub(super) fn encode_record(
    id: u64,
    seq: u64,
    kept: &[Kept],
    data: &[u8],
    description: Option<&[u8]>,
) -> (Vec<u8>, u64) {
    let mut lists = Vec::new();
    for kept in kept {
        put(
            &mut lists,
            &[kept.chunk, kept.count << 1 | u64::from(kept.is_zero)],
        );
    }
    lists.extend_from_slice(description.unwrap_or_default());
    let mut rest = Vec::new();
    put(
        &mut rest,
        &[
            id,
            seq,
            lists.len() as u64,
            data.len() as u64,
            description.is_some().into(),
            0,
        ],
    );
    rest.extend_from_slice(&lists);
    pad(&mut rest);
    let data_at = (rest.len() + SEAL) as u64;
    rest.extend_from_slice(data);
    pad(&mut rest);
    (sealed(RECORD_MAGIC, &rest), data_at)
}

fn decode_kept(lists: &[u8]) -> Vec<Kept> {
    let (lists, _) = lists.as_chunks::<16>();
    let kept = lists.iter().map(|list| {
        let count = le64(list, 8);
        Kept {
            chunk: le64(list, 0),
            count: count >> 1,
            is_zero: count & 1 != 0,
        }
    });
    kept.collect()
}
