//! Writes: into staging memory, whole chunks as they come, parts of chunks over what was there.

use std::ops::{Deref, Range};
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::delta::Change;
use super::pending::{Io, Piece, Progress, Purpose};
use super::reads::Place;
use super::requests::to_usize;
use super::room::Admission;
use crate::engine::command::{Action, Buffers, Failure, Op, Request};
use crate::engine::units::{ChunkIndex, Extent};

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    pub(super) fn write_whole(
        &mut self,
        request: &Request,
        chunks: Range<u64>,
        io: &mut Io<'_, impl Buffers>,
    ) -> Progress {
        for chunk in chunks.clone() {
            let rest = Piece::Whole(chunk..chunks.end);
            let part = self.geometry.chunk_extent(ChunkIndex(chunk));
            let from = self.span(request, part);
            if is_zero(io.buffers.bytes(from)) {
                match self.zero(request, chunk..chunk + 1, rest, io) {
                    Progress::Done => continue,
                    other => return other,
                }
            }
            let place = match self.pool_place(request, chunk, rest, io) {
                Ok(place) => place,
                Err(other) => return other,
            };
            let whole = self.pool_span(place);
            if part.len < self.shape.chunk_bytes() {
                io.buffers.bytes_mut(whole).fill(0);
            }
            io.buffers.copy(from, whole.part(0, from.len));
            self.put(chunk, place);
        }
        Progress::Done
    }

    /// A place of the pool to put a chunk in: the one it has in the open epoch, or a new one.
    fn pool_place(
        &mut self,
        request: &Request,
        chunk: u64,
        rest: Piece,
        io: &mut Io<'_, impl Buffers>,
    ) -> Result<u32, Progress> {
        if let Some(Change::Put(place)) = self.staging.open_change(chunk) {
            return Ok(place);
        }
        match self.admit_put(request, chunk) {
            Admission::Yes => {}
            Admission::Later => return Err(self.starve(request.id, rest)),
            Admission::No => return Err(Progress::Failed(Failure::NoSpace)),
            Admission::Ask(missing) => return Err(self.ask(request.id, missing, rest, io.out)),
        }
        // A place that is taken must be given back, so look for the record's room first.
        match self
            .staging
            .has_room()
            .then(|| self.staging.take())
            .flatten()
        {
            Some(place) => Ok(place),
            None => Err(self.starve(request.id, rest)),
        }
    }

    /// A chunk is complete in a place of the pool.
    fn put(&mut self, chunk: u64, place: u32) {
        if self.staging.open_change(chunk) != Some(Change::Put(place)) {
            self.staging.put(chunk, place);
        }
    }

    pub(super) fn write_zeros(
        &mut self,
        request: &Request,
        chunks: Range<u64>,
        io: &mut Io<'_, impl Buffers>,
    ) -> Progress {
        let mut first = chunks.start;
        while first < chunks.end {
            let end = chunks.end.min(first + u64::from(u32::MAX));
            match self.zero(request, first..end, Piece::Zero(first..chunks.end), io) {
                Progress::Done => first = end,
                other => return other,
            }
        }
        Progress::Done
    }

    /// Let chunks, fewer than 2^32, be zeros.
    fn zero(
        &mut self,
        request: &Request,
        chunks: Range<u64>,
        rest: Piece,
        io: &mut Io<'_, impl Buffers>,
    ) -> Progress {
        match self.admit_fill(&chunks) {
            Admission::Yes if self.staging.has_room() => {
                let count = u32::try_from(chunks.end - chunks.start).unwrap_or(u32::MAX);
                self.staging.zero(chunks.start, count);
                Progress::Done
            }
            Admission::No => Progress::Failed(Failure::NoSpace),
            Admission::Ask(missing) => self.ask(request.id, missing, rest, io.out),
            _ => self.starve(request.id, rest),
        }
    }

    /// Write, or zero, a part of one chunk: over its copy in the open epoch, or over its old content.
    pub(super) fn write_partial(
        &mut self,
        request: &Request,
        piece: Extent,
        io: &mut Io<'_, impl Buffers>,
    ) -> Progress {
        let chunk = piece.offset / self.shape.chunk_bytes();
        let rest = Piece::Partial(piece);
        if let Some(Change::Put(place)) = self.staging.open_change(chunk) {
            self.lay_over(request, piece, place, io);
            return Progress::Done;
        }
        let from = match self.place(chunk) {
            Ok(from) => from,
            Err(missing) => return self.ask(request.id, missing, rest, io.out),
        };
        let place = match self.pool_place(request, chunk, rest, io) {
            Ok(place) => place,
            Err(other) => return other,
        };
        let whole = self.pool_span(place);
        let start = chunk * self.shape.chunk_bytes();
        let in_base = self
            .geometry
            .base_bytes
            .clamp(start, start + self.shape.chunk_bytes())
            - start;
        let (action, slot) = match from {
            Place::Staged(old) => {
                io.buffers.copy(self.pool_span(old), whole);
                return self.write_ready(request, piece, place, io);
            }
            Place::Slot(entry) => {
                self.space.pin(entry.slot);
                let offset = self.shape.offset_bytes(entry.slot);
                let action = Action::ReadCow {
                    offset,
                    into: whole,
                };
                (action, Some((entry.slot, entry.crc)))
            }
            Place::Absent if in_base > 0 => {
                io.buffers.bytes_mut(whole).fill(0);
                let into = whole.part(0, to_usize(in_base));
                let action = Action::ReadBase {
                    offset: start,
                    into,
                };
                (action, None)
            }
            Place::Zero | Place::Absent => {
                io.buffers.bytes_mut(whole).fill(0);
                return self.write_ready(request, piece, place, io);
            }
        };
        let purpose = Purpose::Fill { piece, place, slot };
        self.command(action, purpose, Some(request.id), io.out);
        Progress::Done
    }

    /// The old content of a chunk is in a place of the pool.
    pub(super) fn write_ready(
        &mut self,
        request: &Request,
        piece: Extent,
        place: u32,
        io: &mut Io<'_, impl Buffers>,
    ) -> Progress {
        let chunk = piece.offset / self.shape.chunk_bytes();
        if !self.staging.has_room() {
            return self.starve(request.id, Piece::Ready(piece, place));
        }
        self.lay_over(request, piece, place, io);
        self.put(chunk, place);
        Progress::Done
    }

    /// Lay a request's part of a chunk over the chunk in a place of the pool.
    fn lay_over(
        &mut self,
        request: &Request,
        piece: Extent,
        place: u32,
        io: &mut Io<'_, impl Buffers>,
    ) {
        let to = self.within_chunk(self.pool_span(place), piece);
        match request.op {
            Op::WriteZeroes => io.buffers.bytes_mut(to).fill(0),
            _ => io.buffers.copy(self.span(request, piece), to),
        }
    }
}

/// Whether all bytes are zero; in steps that the compiler turns into vector instructions.
fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(128)
        .all(|step| step.iter().fold(0, |any, byte| any | byte) == 0)
}
