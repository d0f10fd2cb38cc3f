//! The parts of a simulated machine: its memory, and sectors that hold one number each.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::engine::command::{Action, Buffer, Buffers, Op, Request, Span};
use crate::engine::cowfile::staging::Staging;
use crate::engine::plan::Geometry;

pub(super) type Words = Arc<[AtomicU32]>;

/// What goes wrong, in how many of 1000 commands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) failing: u16,
    pub(super) short: u16,
    pub(super) dying: u16,
    /// Syncs that do nothing, and say that they did.
    pub(super) lying: u16,
    /// This very command fails, counted from the first.
    pub(super) nth: Option<u64>,
    /// Power cuts tried after each command.
    pub(super) cuts: u32,
}

pub(super) struct Memory {
    pub(super) requests: Vec<Vec<u8>>,
    pub(super) scratch: Vec<Vec<u8>>,
    pub(super) staging: Vec<u8>,
}

impl Buffers for Memory {
    fn bytes(&self, span: Span) -> &[u8] {
        let buffer = match span.buffer {
            Buffer::Request(id) => &self.requests[usize::from(id.0)],
            Buffer::Scratch(index) => &self.scratch[index],
            Buffer::Staging => &self.staging,
        };
        &buffer[span.start..span.start + span.len]
    }

    fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let buffer = match span.buffer {
            Buffer::Request(id) => &mut self.requests[usize::from(id.0)],
            Buffer::Scratch(index) => &mut self.scratch[index],
            Buffer::Staging => &mut self.staging,
        };
        &mut buffer[span.start..span.start + span.len]
    }
}

pub(super) fn words(staging_chunks: u32) -> Words {
    (0..Staging::<Words>::words_needed(staging_chunks))
        .map(|_| AtomicU32::new(0))
        .collect()
}

/// Whether a request changes what the device reads as.
pub(super) fn changes_sectors(request: &Request) -> bool {
    !matches!(request.op, Op::Read | Op::Flush)
}

/// The sectors a request reads or changes.
pub(super) fn affected(geometry: &Geometry, request: &Request) -> std::ops::Range<usize> {
    let sector = |byte: u64| usize::try_from(byte / 512).unwrap();
    match request.op {
        Op::Flush => 0..0,
        Op::Discard => {
            let whole = geometry.pieces(request.extent).whole;
            let bytes = geometry.chunk_bytes;
            sector(whole.start * bytes)..sector((whole.end * bytes).min(geometry.device_bytes))
        }
        _ => sector(request.extent.offset)..sector(request.extent.end()),
    }
}

pub(super) fn shorten(action: Action, bytes: usize) -> Action {
    match action {
        Action::ReadBase { offset, into } => Action::ReadBase {
            offset,
            into: into.part(0, bytes),
        },
        Action::ReadCow { offset, into } => Action::ReadCow {
            offset,
            into: into.part(0, bytes),
        },
        Action::WriteCow { offset, from } => Action::WriteCow {
            offset,
            from: from.part(0, bytes),
        },
        other => other,
    }
}

pub(super) fn fill(bytes: &mut [u8], content: u32) {
    bytes
        .chunks_mut(4)
        .for_each(|word| word.copy_from_slice(&content.to_le_bytes()[..word.len()]));
}

/// The number that fills a sector, if one does.
pub(super) fn content(sector: &[u8]) -> Option<u32> {
    let word: [u8; 4] = *sector.first_chunk()?;
    sector
        .chunks(4)
        .all(|other| other == &word[..other.len()])
        .then(|| u32::from_le_bytes(word))
}
