//! Base and cowfile as one disk: requests in, commands out, outcomes in, requests done.
//!
//! The hazards this file is about (each tested in `simulation.rs`):
//! - Requests that change the same chunk take turns, in the order they came: also a partial write
//!   that waits for its base.
//! - A read pins the slots it reads (`volatile.rs`).
//! - A chunk's map entry is set only after its slot is complete, and a request is done only after
//!   its entries are set.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::atomic::AtomicU32;

use slab::Slab;

use crate::engine::command::{
    Action, Buffer, Buffers, Command, CommandId, Failure, Op, Outbox, Outcome,
};
use crate::engine::command::{Request, RequestId, Span};
use crate::engine::map::{Damage, Place};
use crate::engine::plan::{Geometry, Source};
use crate::engine::units::{CHUNK_BYTES, ChunkIndex, Extent, Slot};
use crate::engine::volatile::{Full, Limits, Usage, Volatile};

const CHUNK: usize = CHUNK_BYTES as usize;

/// How much scratch memory, in chunks, a driver with `depth` requests at a time must lend.
#[must_use]
pub fn scratch_chunks(depth: usize) -> usize {
    2 * depth
}

/// The engine of one device.
#[derive(Debug)]
pub struct Stack<W> {
    geometry: Geometry,
    store: Volatile<W>,
    /// By request number.
    requests: Vec<Option<UnderWay>>,
    commands: Slab<Pending>,
    /// What changes chunks now, and which.
    claims: Vec<(RequestId, Range<u64>)>,
    /// What has to wait for a claim, in the order it came.
    waiting: VecDeque<Request>,
    /// What has to wait for slots on their way to free.
    starved: VecDeque<(RequestId, Piece)>,
    /// Scratch chunks nobody uses.
    scratch: Vec<usize>,
}

/// A request under way.
#[derive(Debug)]
struct UnderWay {
    request: Request,
    /// Commands and starved pieces it still waits for.
    pending: usize,
    failure: Option<Failure>,
}

/// A command under way.
#[derive(Debug)]
struct Pending {
    action: Action,
    purpose: Purpose,
    /// Whose; a punch is nobody's.
    request: Option<RequestId>,
}

/// What becomes of a command's outcome.
#[derive(Debug)]
enum Purpose {
    /// Data for a read; of these slots, if of any.
    Read { slots: Range<u32> },
    /// Overwrites slots that have their names already.
    InPlace { scratch: Option<usize> },
    /// Fills slots that get their names when it is done.
    Fresh {
        first_chunk: u64,
        slots: Range<u32>,
        scratch: Option<usize>,
    },
    /// The old content of a chunk that a partial write goes into.
    Fill { piece: Extent, scratch: usize },
    /// Gives slots back.
    Punch { slots: Range<u32> },
}

/// A part of a write that needs slots.
#[derive(Debug)]
enum Piece {
    /// Whole chunks from the request's buffer.
    Whole(Range<u64>),
    /// A chunk made ready in scratch memory.
    Ready { chunk: ChunkIndex, scratch: usize },
}

impl<W: Deref<Target = [AtomicU32]>> Stack<W> {
    /// A new session for up to `depth` requests at a time. `words` is all zero and long enough for
    /// the geometry's chunks (`Map::words_needed`).
    pub fn create(words: W, geometry: Geometry, limits: Limits, depth: usize) -> Self {
        Self::with(
            Volatile::create(words, geometry.chunks(), limits),
            geometry,
            depth,
        )
    }

    /// Go on with the session another process left in `words` and a cowfile of `cowfile_bytes`.
    ///
    /// # Errors
    /// If the words hold no map of such a device.
    pub fn open(
        words: W,
        geometry: Geometry,
        limits: Limits,
        cowfile_bytes: u64,
        depth: usize,
    ) -> Result<(Self, Outbox), Damage> {
        let slots =
            u32::try_from(cowfile_bytes.div_ceil(CHUNK_BYTES)).map_err(|_| Damage::OtherDevice)?;
        let store = Volatile::open(words, geometry.chunks(), limits, slots)?;
        let mut stack = Self::with(store, geometry, depth);
        let mut out = Outbox::default();
        stack.punch(&mut out);
        Ok((stack, out))
    }

    fn with(store: Volatile<W>, geometry: Geometry, depth: usize) -> Self {
        Self {
            geometry,
            store,
            requests: (0..depth).map(|_| None).collect(),
            commands: Slab::new(),
            claims: Vec::new(),
            waiting: VecDeque::new(),
            starved: VecDeque::new(),
            scratch: (0..scratch_chunks(depth)).collect(),
        }
    }

    /// How full the store is.
    pub fn usage(&self) -> Usage {
        self.store.usage()
    }

    /// A request comes in. Its number must not be under way.
    pub fn submit(&mut self, request: Request, buffers: &mut impl Buffers, out: &mut Outbox) {
        let inside = request
            .extent
            .offset
            .checked_add(request.extent.len)
            .is_some_and(|end| end <= self.geometry.device_bytes);
        let Some(place) = self.requests.get_mut(usize::from(request.id.0)) else {
            out.done.push((request.id, Err(Failure::Io)));
            return;
        };
        debug_assert!(
            place.is_none(),
            "a request's number is free until it is done"
        );
        if request.op != Op::Flush && (!inside || request.extent.len == 0) {
            out.done.push((request.id, Err(Failure::Io)));
            return;
        }
        *place = Some(UnderWay {
            request,
            pending: 0,
            failure: None,
        });
        let blocked = |other: &Range<u64>| overlap(&self.claimed(&request), other);
        if self.claims.iter().any(|(_, chunks)| blocked(chunks))
            || self
                .waiting
                .iter()
                .any(|earlier| blocked(&self.claimed(earlier)))
        {
            self.waiting.push_back(request);
            return;
        }
        self.start(request, buffers, out);
        self.settle(request.id, buffers, out);
    }

    /// A command has ended.
    pub fn complete(
        &mut self,
        id: CommandId,
        outcome: Outcome,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
    ) {
        let Some(pending) = self.commands.get_mut(id.0) else {
            return;
        };
        let wanted = pending.action.transfer_bytes();
        let result = match outcome {
            // Short: ask for the rest. Nothing at all would go on for ever.
            Ok(done) if 0 < done && done < wanted => {
                pending.action = pending.action.rest(done);
                out.commands.push(Command {
                    id,
                    action: pending.action,
                });
                return;
            }
            Ok(0) if wanted > 0 => Err(Failure::Io),
            Ok(_) => Ok(()),
            Err(failure) => Err(failure),
        };
        let Pending {
            purpose, request, ..
        } = self.commands.remove(id.0);
        self.conclude(purpose, request, result, buffers, out);
        if let Some(request) = request {
            if let (Err(failure), Some(under_way)) = (result, self.under_way(request)) {
                under_way.failure.get_or_insert(failure);
            }
            if let Some(under_way) = self.under_way(request) {
                under_way.pending -= 1;
            }
            self.settle(request, buffers, out);
        }
        self.punch(out);
    }

    /// The chunks a request changes, which nobody else may change meanwhile.
    fn claimed(&self, request: &Request) -> Range<u64> {
        match request.op {
            Op::Read | Op::Flush => 0..0,
            Op::Write | Op::WriteZeroes => request.extent.chunks(),
            Op::Discard => self.geometry.pieces(request.extent).whole,
        }
    }

    fn under_way(&mut self, id: RequestId) -> Option<&mut UnderWay> {
        self.requests.get_mut(usize::from(id.0))?.as_mut()
    }

    /// Begin a request that nothing stands in the way of.
    fn start(&mut self, request: Request, buffers: &mut impl Buffers, out: &mut Outbox) {
        let chunks = self.claimed(&request);
        if !chunks.is_empty() {
            self.claims.push((request.id, chunks));
        }
        match request.op {
            Op::Flush => {}
            Op::Read => self.read(&request, buffers, out),
            Op::Discard => self.store.zero(self.geometry.pieces(request.extent).whole),
            Op::Write | Op::WriteZeroes => {
                let pieces = self.geometry.pieces(request.extent);
                if request.op == Op::WriteZeroes {
                    self.store.zero(pieces.whole);
                } else if !pieces.whole.is_empty() {
                    self.write_whole(&request, pieces.whole, buffers, out);
                }
                for piece in pieces.partial.into_iter().flatten() {
                    self.write_partial(&request, piece, buffers, out);
                }
            }
        }
        self.punch(out);
    }

    /// End a request that waits for nothing more, and begin those that waited for it.
    fn settle(&mut self, id: RequestId, buffers: &mut impl Buffers, out: &mut Outbox) {
        let mut settled = vec![id];
        while let Some(id) = settled.pop() {
            let Some(place) = self.requests.get_mut(usize::from(id.0)) else {
                continue;
            };
            let Some(over) = place.take_if(|under_way| under_way.pending == 0) else {
                continue;
            };
            out.done.push((id, over.failure.map_or(Ok(()), Err)));
            self.claims.retain(|(owner, _)| *owner != id);
            let mut still_waiting: VecDeque<Request> = VecDeque::new();
            for request in std::mem::take(&mut self.waiting) {
                let chunks = self.claimed(&request);
                let blocked = self
                    .claims
                    .iter()
                    .any(|(_, claimed)| overlap(&chunks, claimed))
                    || still_waiting
                        .iter()
                        .any(|earlier| overlap(&chunks, &self.claimed(earlier)));
                if blocked {
                    still_waiting.push_back(request);
                } else {
                    self.start(request, buffers, out);
                    settled.push(request.id);
                }
            }
            self.waiting = still_waiting;
        }
    }

    fn read(&mut self, request: &Request, buffers: &mut impl Buffers, out: &mut Outbox) {
        for run in self
            .geometry
            .runs(request.extent, |chunk| self.store.place(chunk))
        {
            let into = self.span(request, run.extent);
            match run.source {
                Source::Zero => buffers.bytes_mut(into).fill(0),
                Source::Base => {
                    let action = Action::ReadBase {
                        offset: run.extent.offset,
                        into,
                    };
                    self.command(request.id, action, Purpose::Read { slots: 0..0 }, out);
                }
                Source::Slots(first) => {
                    let offset = first.offset_bytes() + run.extent.offset % CHUNK_BYTES;
                    let count = run.extent.chunks().end - run.extent.chunks().start;
                    let slots = first.0..first.0 + u32::try_from(count).unwrap_or_default();
                    self.store.pin(slots.clone());
                    self.command(
                        request.id,
                        Action::ReadCow { offset, into },
                        Purpose::Read { slots },
                        out,
                    );
                }
            }
        }
    }

    /// Write chunks that the request covers: zeros take no space, what has a slot keeps it, the rest
    /// gets fresh ones. Neighbours in neighbouring slots are written at once.
    fn write_whole(
        &mut self,
        request: &Request,
        chunks: Range<u64>,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
    ) {
        let mut run: Option<(bool, u64, Range<u32>)> = None;
        for chunk in chunks.clone() {
            let extent = self.geometry.chunk_extent(ChunkIndex(chunk));
            if is_zero(buffers.bytes(self.span(request, extent))) {
                self.store.zero(chunk..chunk + 1);
                continue;
            }
            let (fresh, slot) = match self.store.place(ChunkIndex(chunk)) {
                Place::Slot(slot) => (false, slot),
                Place::Absent | Place::Zero => match self.store.allocate(request.metadata) {
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
                        self.write_slots(request, run, out);
                    }
                }
            }
        }
        if let Some(run) = run {
            self.write_slots(request, run, out);
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
    fn write_partial(
        &mut self,
        request: &Request,
        piece: Extent,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
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
            return self.command(request.id, action, Purpose::InPlace { scratch: None }, out);
        }
        let Some(scratch) = self.scratch.pop() else {
            debug_assert!(false, "two scratch chunks for each request are enough");
            return self.fail(request.id, Failure::Io);
        };
        let whole = Span {
            buffer: Buffer::Scratch(scratch),
            start: 0,
            len: CHUNK,
        };
        buffers.bytes_mut(whole).fill(0);
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
                return self.command(request.id, Action::WriteCow { offset, from }, purpose, out);
            }
        };
        if from_base > 0 {
            let into = whole.part(0, to_usize(from_base));
            let action = Action::ReadBase {
                offset: extent.offset,
                into,
            };
            return self.command(request.id, action, Purpose::Fill { piece, scratch }, out);
        }
        self.lay_over(request, piece, scratch, buffers, out);
    }

    /// The old content of a chunk is in scratch memory: lay the new over it and write it out.
    fn lay_over(
        &mut self,
        request: &Request,
        piece: Extent,
        scratch: usize,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
    ) {
        let chunk = ChunkIndex(piece.offset / CHUNK_BYTES);
        let start = to_usize(piece.offset % CHUNK_BYTES);
        let target = Span {
            buffer: Buffer::Scratch(scratch),
            start,
            len: to_usize(piece.len),
        };
        if request.op == Op::WriteZeroes {
            buffers.bytes_mut(target).fill(0);
        } else {
            let new = buffers.bytes(self.span(request, piece)).to_vec();
            buffers.bytes_mut(target).copy_from_slice(&new);
        }
        if is_zero(buffers.bytes(Span {
            buffer: Buffer::Scratch(scratch),
            start: 0,
            len: CHUNK,
        })) {
            self.store.zero(chunk.0..chunk.0 + 1);
            self.scratch.push(scratch);
        } else {
            self.write_ready(request, chunk, scratch, out);
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
        match self.store.allocate(request.metadata) {
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

    /// What a command was for has happened, or failed.
    fn conclude(
        &mut self,
        purpose: Purpose,
        request: Option<RequestId>,
        result: Result<(), Failure>,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
    ) {
        match purpose {
            Purpose::Read { slots } => self.store.unpin(slots),
            Purpose::InPlace { scratch } => self.scratch.extend(scratch),
            Purpose::Fresh {
                first_chunk,
                slots,
                scratch,
            } => {
                self.scratch.extend(scratch);
                for (chunk, slot) in (first_chunk..).zip(slots) {
                    match result {
                        Ok(()) => self.store.name(ChunkIndex(chunk), Slot(slot)),
                        Err(_) => self.store.give_up(slot),
                    }
                }
            }
            Purpose::Fill { piece, scratch } => {
                let request = request.and_then(|id| Some(self.under_way(id)?.request));
                match (result, request) {
                    (Ok(()), Some(request)) => {
                        self.lay_over(&request, piece, scratch, buffers, out)
                    }
                    _ => self.scratch.push(scratch),
                }
            }
            Purpose::Punch { slots } => {
                // A punch that failed leaves its pages behind, but nothing needs them to be zero.
                self.store.punched(slots);
                self.feed_starved(buffers, out);
            }
        }
    }

    /// Slots have become free: go on with what waited for them.
    fn feed_starved(&mut self, buffers: &mut impl Buffers, out: &mut Outbox) {
        for (id, piece) in std::mem::take(&mut self.starved) {
            let Some(under_way) = self.under_way(id) else {
                continue;
            };
            under_way.pending -= 1;
            let request = under_way.request;
            match piece {
                Piece::Whole(chunks) => self.write_whole(&request, chunks, buffers, out),
                Piece::Ready { chunk, scratch } => self.write_ready(&request, chunk, scratch, out),
            }
            self.settle(id, buffers, out);
        }
    }

    /// Have the slots punched that nobody needs any more.
    fn punch(&mut self, out: &mut Outbox) {
        for slots in self.store.take_punches() {
            let offset = Slot(slots.start).offset_bytes();
            let len = u64::from(slots.end - slots.start) * CHUNK_BYTES;
            let action = Action::PunchCow { offset, len };
            let key = self.commands.insert(Pending {
                action,
                purpose: Purpose::Punch { slots },
                request: None,
            });
            out.commands.push(Command {
                id: CommandId(key),
                action,
            });
        }
    }

    fn command(&mut self, id: RequestId, action: Action, purpose: Purpose, out: &mut Outbox) {
        if let Some(under_way) = self.under_way(id) {
            under_way.pending += 1;
        }
        let key = self.commands.insert(Pending {
            action,
            purpose,
            request: Some(id),
        });
        out.commands.push(Command {
            id: CommandId(key),
            action,
        });
    }

    fn fail(&mut self, id: RequestId, failure: Failure) {
        if let Some(under_way) = self.under_way(id) {
            under_way.failure.get_or_insert(failure);
        }
    }

    /// The part of the request's buffer that belongs to `extent`.
    fn span(&self, request: &Request, extent: Extent) -> Span {
        let start = to_usize(extent.offset - request.extent.offset);
        Span {
            buffer: Buffer::Request(request.id),
            start,
            len: to_usize(extent.len),
        }
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Lengths within a buffer fit an address; anything else would not have come this far.
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or_default()
}

/// Whether all bytes are zero; in steps that the compiler turns into vector instructions.
fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(128)
        .all(|step| step.iter().fold(0, |any, byte| any | byte) == 0)
}
