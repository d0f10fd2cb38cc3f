//! Base and cowfile as one disk: requests in, commands out, outcomes in, requests done.
//!
//! The hazards this room is about (each tested in `simulation.rs`):
//! - Requests that change the same chunk take turns, in the order they came: also a partial write
//!   that waits for its base.
//! - A read pins the slots it reads (`volatile.rs`).
//! - A chunk's map entry is set only after its slot is complete, and a request is done only after
//!   its entries are set.

mod under_way;
mod write;

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::atomic::AtomicU32;

use slab::Slab;

use under_way::{Io, Pending, Piece, Purpose, UnderWay};

use crate::engine::command::{
    Action, Buffer, Buffers, Command, CommandId, Failure, Op, Outbox, Outcome,
};
use crate::engine::command::{Request, RequestId, Span};
use crate::engine::map::Damage;
use crate::engine::plan::{Geometry, Source};
use crate::engine::units::{CHUNK_BYTES, ChunkIndex, Extent, Limits, Slot};
use crate::engine::volatile::{Usage, Volatile};

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
        let io = &mut Io { buffers, out };
        self.start(request, io);
        self.settle(request.id, io);
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
        let io = &mut Io { buffers, out };
        self.conclude(purpose, request, result, io);
        if let Some(request) = request {
            if let Some(under_way) = self.under_way(request) {
                under_way.pending -= 1;
                under_way.failure = under_way.failure.or(result.err());
            }
            self.settle(request, io);
        }
        self.punch(io.out);
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
    fn start(&mut self, request: Request, io: &mut Io<'_, impl Buffers>) {
        let chunks = self.claimed(&request);
        if !chunks.is_empty() {
            self.claims.push((request.id, chunks));
        }
        match request.op {
            Op::Flush => {}
            Op::Read => self.read(&request, io),
            Op::Discard => self.store.zero(self.geometry.pieces(request.extent).whole),
            Op::Write | Op::WriteZeroes => {
                let pieces = self.geometry.pieces(request.extent);
                if request.op == Op::WriteZeroes {
                    self.store.zero(pieces.whole);
                } else if !pieces.whole.is_empty() {
                    self.write_whole(&request, pieces.whole, io);
                }
                for piece in pieces.partial.into_iter().flatten() {
                    self.write_partial(&request, piece, io);
                }
            }
        }
        self.punch(io.out);
    }

    /// End a request that waits for nothing more, and begin those that waited for it.
    fn settle(&mut self, id: RequestId, io: &mut Io<'_, impl Buffers>) {
        let mut settled = vec![id];
        while let Some(id) = settled.pop() {
            let Some(place) = self.requests.get_mut(usize::from(id.0)) else {
                continue;
            };
            let Some(over) = place.take_if(|under_way| under_way.pending == 0) else {
                continue;
            };
            io.out.done.push((id, over.failure.map_or(Ok(()), Err)));
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
                    self.start(request, io);
                    settled.push(request.id);
                }
            }
            self.waiting = still_waiting;
        }
    }

    fn read(&mut self, request: &Request, io: &mut Io<'_, impl Buffers>) {
        for run in self
            .geometry
            .runs(request.extent, |chunk| self.store.place(chunk))
        {
            let into = self.span(request, run.extent);
            match run.source {
                Source::Zero => io.buffers.bytes_mut(into).fill(0),
                Source::Base => {
                    let action = Action::ReadBase {
                        offset: run.extent.offset,
                        into,
                    };
                    self.command(request.id, action, Purpose::Read { slots: 0..0 }, io.out);
                }
                Source::Slots(first) => {
                    let offset = first.offset_bytes() + run.extent.offset % CHUNK_BYTES;
                    let count = run.extent.chunks().end - run.extent.chunks().start;
                    let slots = first.0..first.0 + slot_count(count);
                    self.store.pin(slots.clone());
                    self.command(
                        request.id,
                        Action::ReadCow { offset, into },
                        Purpose::Read { slots },
                        io.out,
                    );
                }
            }
        }
    }

    /// What a command was for has happened, or failed.
    fn conclude(
        &mut self,
        purpose: Purpose,
        request: Option<RequestId>,
        result: Result<(), Failure>,
        io: &mut Io<'_, impl Buffers>,
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
                    (Ok(()), Some(request)) => self.lay_over(&request, piece, scratch, io),
                    _ => self.scratch.push(scratch),
                }
            }
            Purpose::Punch { slots } => {
                // A punch that failed leaves its pages behind, but nothing needs them to be zero.
                self.store.punched(slots);
                self.feed_starved(io);
            }
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

#[expect(
    clippy::expect_used,
    reason = "a request has fewer chunks than a cowfile has slots"
)]
fn slot_count(chunks: u64) -> u32 {
    u32::try_from(chunks).expect("the chunks of a request")
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

#[expect(
    clippy::expect_used,
    reason = "a length within a buffer fits an address, or nothing here is true"
)]
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a length within a buffer")
}
