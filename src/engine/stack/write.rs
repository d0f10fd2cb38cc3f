//! Writes: whole chunks, and parts of chunks laid over what was there.

use std::ops::{Deref, Range};
use std::sync::atomic::AtomicU32;

use super::under_way::{Io, Piece, Purpose};
use super::{Stack, to_usize};
use crate::engine::command::{
    Action, Buffer, Buffers, Failure, Op, Outbox, Request, RequestId, Span,
};
use crate::engine::map::Place;
use crate::engine::units::{CHUNK_BYTES, CHUNK_LEN, ChunkIndex, Extent, Slot};
use crate::engine::volatile::Full;

impl<W: Deref<Target = [AtomicU32]>> Stack<W> {
    /// Write chunks that the request covers: zeros take no space, what has a slot keeps it, the rest
    /// gets fresh ones. Neighbours in neighbouring slots are written at once.
    pub(super) fn write_whole(
        &mut self,
        request: &Request,
        chunks: Range<u64>,
        io: &mut Io<'_, impl Buffers>,
    ) {
        let mut run: Option<(bool, u64, Range<u32>)> = None;
        for chunk in chunks.clone() {
            let extent = self.geometry.chunk_extent(ChunkIndex(chunk));
            if is_zero(io.buffers.bytes(self.span(request, extent))) {
                self.store.zero(chunk..chunk + 1);
                continue;
            }
            let (fresh, slot) = match self.store.place(ChunkIndex(chunk)) {
                Place::Slot(slot) => (false, slot),
                Place::Absent | Place::Zero => match self.store.allocate(request.may_use_reserve())
                {
                    Ok(slot) => (true, slot),
                    Err(full) => {
                        self.out_of_slots(request.id, full, Piece::Whole(chunk..chunks.end));
                        break;
                    }
                },
            };
            match &mut run {
                Some((run_fresh, first, slots))
                    if *run_fresh == fresh
                        && slots.end == slot.0
                        && chunk - *first == u64::from(slots.end - slots.start) =>
                {
                    slots.end += 1;
                }
                _ => {
                    if let Some(run) = run.replace((fresh, chunk, slot.0..slot.0 + 1)) {
                        self.write_slots(request, run, io.out);
                    }
                }
            }
        }
        if let Some(run) = run {
            self.write_slots(request, run, io.out);
        }
    }

    fn write_slots(&mut self, request: &Request, run: (bool, u64, Range<u32>), out: &mut Outbox) {
        let (fresh, first_chunk, slots) = run;
        let offset = first_chunk * CHUNK_BYTES;
        let end = (offset + u64::from(slots.end - slots.start) * CHUNK_BYTES)
            .min(self.geometry.device_bytes);
        let from = self.span(
            request,
            Extent {
                offset,
                len: end - offset,
            },
        );
        let action = Action::WriteCow {
            offset: Slot(slots.start).offset_bytes(),
            from,
        };
        let purpose = match fresh {
            true => Purpose::Fresh {
                first_chunk,
                slots,
                scratch: None,
            },
            false => Purpose::InPlace { scratch: None },
        };
        self.command(request.id, action, purpose, out);
    }

    /// Write, or zero, a part of one chunk.
    pub(super) fn write_partial(
        &mut self,
        request: &Request,
        piece: Extent,
        io: &mut Io<'_, impl Buffers>,
    ) {
        let chunk = ChunkIndex(piece.offset / CHUNK_BYTES);
        let extent = self.geometry.chunk_extent(chunk);
        let place = self.store.place(chunk);
        if let (Place::Slot(slot), Op::Write) = (place, request.op) {
            let offset = slot.offset_bytes() + piece.offset % CHUNK_BYTES;
            let action = Action::WriteCow {
                offset,
                from: self.span(request, piece),
            };
            return self.command(
                request.id,
                action,
                Purpose::InPlace { scratch: None },
                io.out,
            );
        }
        let Some(scratch) = self.scratch.pop() else {
            debug_assert!(false, "two scratch chunks for each request are enough");
            return self.fail(request.id, Failure::Io);
        };
        let whole = Span {
            buffer: Buffer::Scratch(scratch),
            start: 0,
            len: CHUNK_LEN,
        };
        io.buffers.bytes_mut(whole).fill(0);
        let from_base = match place {
            Place::Absent => {
                self.geometry.base_bytes.clamp(extent.offset, extent.end()) - extent.offset
            }
            Place::Zero => 0,
            Place::Slot(slot) => {
                let offset = slot.offset_bytes() + piece.offset % CHUNK_BYTES;
                let from = whole.part(0, to_usize(piece.len));
                let purpose = Purpose::InPlace {
                    scratch: Some(scratch),
                };
                return self.command(
                    request.id,
                    Action::WriteCow { offset, from },
                    purpose,
                    io.out,
                );
            }
        };
        if from_base > 0 {
            let into = whole.part(0, to_usize(from_base));
            let action = Action::ReadBase {
                offset: extent.offset,
                into,
            };
            return self.command(request.id, action, Purpose::Fill { piece, scratch }, io.out);
        }
        self.lay_over(request, piece, scratch, io);
    }

    /// The old content of a chunk is in scratch memory: lay the new over it and write it out.
    pub(super) fn lay_over(
        &mut self,
        request: &Request,
        piece: Extent,
        scratch: usize,
        io: &mut Io<'_, impl Buffers>,
    ) {
        let chunk = ChunkIndex(piece.offset / CHUNK_BYTES);
        let start = to_usize(piece.offset % CHUNK_BYTES);
        let target = Span {
            buffer: Buffer::Scratch(scratch),
            start,
            len: to_usize(piece.len),
        };
        if request.op == Op::WriteZeroes {
            io.buffers.bytes_mut(target).fill(0);
        } else {
            let new = io.buffers.bytes(self.span(request, piece)).to_vec();
            io.buffers.bytes_mut(target).copy_from_slice(&new);
        }
        if is_zero(io.buffers.bytes(Span {
            buffer: Buffer::Scratch(scratch),
            start: 0,
            len: CHUNK_LEN,
        })) {
            self.store.zero(chunk.0..chunk.0 + 1);
            self.scratch.push(scratch);
        } else {
            self.write_ready(request, chunk, scratch, io.out);
        }
    }

    /// Write a chunk that is ready in scratch memory to a fresh slot.
    fn write_ready(
        &mut self,
        request: &Request,
        chunk: ChunkIndex,
        scratch: usize,
        out: &mut Outbox,
    ) {
        match self.store.allocate(request.may_use_reserve()) {
            Ok(slot) => {
                let len = to_usize(self.geometry.chunk_extent(chunk).len);
                let from = Span {
                    buffer: Buffer::Scratch(scratch),
                    start: 0,
                    len,
                };
                let purpose = Purpose::Fresh {
                    first_chunk: chunk.0,
                    slots: slot.0..slot.0 + 1,
                    scratch: Some(scratch),
                };
                self.command(
                    request.id,
                    Action::WriteCow {
                        offset: slot.offset_bytes(),
                        from,
                    },
                    purpose,
                    out,
                );
            }
            Err(full) => self.out_of_slots(request.id, full, Piece::Ready { chunk, scratch }),
        }
    }

    /// Wait for slots on their way to free, or give up where there are none.
    fn out_of_slots(&mut self, id: RequestId, full: Full, piece: Piece) {
        match (full, piece) {
            (Full::ForNow, piece) => {
                self.starved.push_back((id, piece));
                if let Some(under_way) = self.under_way(id) {
                    under_way.pending += 1;
                }
            }
            (Full::ForGood, piece) => {
                if let Piece::Ready { scratch, .. } = piece {
                    self.scratch.push(scratch);
                }
                self.fail(id, Failure::NoSpace);
            }
        }
    }

    /// Slots have become free: go on with what waited for them.
    pub(super) fn feed_starved(&mut self, io: &mut Io<'_, impl Buffers>) {
        for (id, piece) in std::mem::take(&mut self.starved) {
            let Some(under_way) = self.under_way(id) else {
                continue;
            };
            under_way.pending -= 1;
            let request = under_way.request;
            match piece {
                Piece::Whole(chunks) => self.write_whole(&request, chunks, io),
                Piece::Ready { chunk, scratch } => {
                    self.write_ready(&request, chunk, scratch, io.out)
                }
            }
            self.settle(id, io);
        }
    }
}

/// Whether all bytes are zero; in steps that the compiler turns into vector instructions.
fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(128)
        .all(|step| step.iter().fold(0, |any, byte| any | byte) == 0)
}
