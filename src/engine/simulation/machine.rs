//! The parts of a simulated machine: the memory a driver lends, and sectors that hold one number each.

use std::ops::Range;

use crate::engine::command::{Action, Buffer, Buffers, Op, Request, Span};
use crate::engine::plan::Geometry;

/// One sector of a device, in bytes.
pub(in crate::engine) const SECTOR: usize = 512;

/// The memory a driver lends.
pub(in crate::engine) struct Memory {
    pub(in crate::engine) requests: Vec<Vec<u8>>,
    pub(in crate::engine) scratch: Vec<Vec<u8>>,
    /// Empty where the store is volatile.
    pub(in crate::engine) staging: Vec<u8>,
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

/// Whether a request changes what the device reads as.
pub(in crate::engine) fn changes_sectors(request: &Request) -> bool {
    !matches!(request.op, Op::Read | Op::Flush)
}

/// The sectors a request reads or changes.
pub(in crate::engine) fn affected(geometry: &Geometry, request: &Request) -> Range<usize> {
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

pub(in crate::engine) fn shorten(action: Action, bytes: usize) -> Action {
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

pub(in crate::engine) fn fill(bytes: &mut [u8], content: u32) {
    bytes
        .chunks_mut(4)
        .for_each(|word| word.copy_from_slice(&content.to_le_bytes()[..word.len()]));
}
