//! Requests: taken in, done piece by piece, parked where they have to wait.

use std::ops::{Deref, Range};
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::pending::{Io, Pending, Piece, Progress, Purpose, UnderWay};
use super::trees::Missing;
use crate::engine::command::{
    Action, Buffer, Buffers, Command, CommandId, Failure, Op, Outbox, Outcome, Request, RequestId,
    Span,
};
use crate::engine::format::page;
use crate::engine::units::Extent;

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// A request comes in. Its number must not be under way.
    pub fn submit(&mut self, mut request: Request, buffers: &mut impl Buffers, out: &mut Outbox) {
        if request.op == Op::Flush {
            // It is about everything; what the kernel says of where is nonsense (sector -1).
            request.extent = Extent { offset: 0, len: 0 };
        }
        let end = request.extent.offset.checked_add(request.extent.len);
        let inside = end.is_some_and(|end| end <= self.geometry.device_bytes);
        let fine = request.op == Op::Flush || (inside && request.extent.len > 0);
        let Some(place) = self
            .requests
            .get_mut(usize::from(request.id.0))
            .filter(|_| fine)
        else {
            out.done.push((request.id, Err(Failure::Io)));
            return;
        };
        debug_assert!(
            place.is_none(),
            "a request's number is free until it is done"
        );
        let pieces = self.geometry.pieces(request.extent);
        let (claim, todo): (Range<u64>, Vec<Piece>) = match request.op {
            Op::Flush => (0..0, vec![Piece::Flush]),
            Op::Read => (0..0, vec![Piece::Read(request.extent)]),
            Op::Discard => (pieces.whole.clone(), vec![Piece::Zero(pieces.whole)]),
            Op::Write | Op::WriteZeroes => {
                let whole = match request.op {
                    Op::Write => Piece::Whole(pieces.whole),
                    _ => Piece::Zero(pieces.whole),
                };
                let partial = pieces.partial.into_iter().flatten().map(Piece::Partial);
                let all = std::iter::once(whole).chain(partial).collect();
                (self.geometry.touched(request.extent), all)
            }
        };
        *place = Some(UnderWay {
            request,
            todo: todo.into(),
            pending: 0,
            failure: None,
        });
        let io = &mut Io { buffers, out };
        if self.turns.begin(request.id, claim) {
            self.advance_request(request.id, io);
        }
        self.pump(io);
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
                let action = pending.action;
                out.commands.push(Command { id, action });
                return;
            }
            Ok(0) if wanted > 0 => Err(Failure::Io),
            Ok(_) => Ok(()),
            Err(failure) => Err(failure),
        };
        let Pending {
            action,
            purpose,
            request,
        } = self.commands.remove(id.0);
        self.syncing &= action != Action::SyncCow;
        let io = &mut Io { buffers, out };
        if result.is_err()
            && let (Action::WriteCow { offset, .. }, Purpose::Job { .. }) = (action, &purpose)
        {
            let slot = u32::try_from(offset >> self.shape.chunk_shift).unwrap_or_default();
            if slot >= self.shape.first_slot() {
                self.space.bar(slot);
            }
        }
        self.conclude(purpose, request, result, io);
        self.pump(io);
    }

    /// What a command was for has happened, or failed.
    fn conclude(
        &mut self,
        purpose: Purpose,
        request: Option<RequestId>,
        mut result: Result<(), Failure>,
        io: &mut Io<'_, impl Buffers>,
    ) {
        match purpose {
            Purpose::FromBase => {}
            Purpose::FromSlots {
                first,
                crcs,
                into,
                scratch,
            } => {
                for (slot, _) in (first..).zip(&crcs) {
                    self.space.unpin(slot);
                }
                let chunks = io.buffers.bytes(into).chunks(self.shape.chunk_len());
                if result.is_ok() && !chunks.map(page::checksum).eq(crcs) {
                    result = Err(Failure::Io);
                }
                if let Some((scratch, piece)) = scratch {
                    if let (Ok(()), Some(request)) = (result, request) {
                        self.copy_scratch(request, into, piece, io);
                    }
                    self.scratch.push(scratch);
                }
            }
            Purpose::Fill { piece, place, slot } => {
                if let Some((slot, crc)) = slot {
                    self.space.unpin(slot);
                    let bytes = io.buffers.bytes(self.pool_span(place));
                    if result.is_ok() && page::checksum(bytes) != crc {
                        result = Err(Failure::Io);
                    }
                }
                match (result, request.and_then(|id| self.under_way(id))) {
                    (Ok(()), Some(under_way)) => {
                        under_way.todo.push_front(Piece::Ready(piece, place));
                    }
                    _ => self.staging.give_back(place),
                }
            }
            Purpose::Load {
                pages,
                buffer,
                scan,
            } => return self.run_loaded((pages, buffer, scan), result, io),
            Purpose::Job { job, buffer } => {
                self.page_buffers.extend(buffer);
                return self.job_step_over(job, result);
            }
            Purpose::LateSync(flushes) => {
                for id in flushes {
                    self.finish(id, result, io.out);
                }
                return;
            }
            Purpose::Grow { to } => return self.grew(to, result),
        }
        if let Some(id) = request {
            if let Some(under_way) = self.under_way(id) {
                under_way.pending -= 1;
            }
            if let Err(failure) = result {
                self.fail(id, failure);
            }
            self.advance_request(id, io);
        }
    }

    pub(super) fn under_way(&mut self, id: RequestId) -> Option<&mut UnderWay> {
        self.requests.get_mut(usize::from(id.0))?.as_mut()
    }

    /// A request cannot be done: nothing more of it is begun.
    pub(super) fn fail(&mut self, id: RequestId, failure: Failure) {
        let Some(under_way) = self.under_way(id) else {
            return;
        };
        under_way.failure.get_or_insert(failure);
        for piece in std::mem::take(&mut under_way.todo) {
            if let Piece::Ready(_, place) = piece {
                self.staging.give_back(place);
            }
        }
    }

    /// Do what can be done of a request now.
    pub(super) fn advance_request(&mut self, id: RequestId, io: &mut Io<'_, impl Buffers>) {
        while let Some(under_way) = self.under_way(id) {
            let request = under_way.request;
            let Some(piece) = under_way.todo.pop_front() else {
                break;
            };
            match self.piece(&request, piece.clone(), io) {
                Progress::Done => {}
                Progress::Parked => return,
                Progress::Failed(failure) => {
                    if let Piece::Ready(_, place) = piece {
                        self.staging.give_back(place);
                    }
                    self.fail(id, failure);
                }
            }
        }
        let over = |under_way: &UnderWay| under_way.todo.is_empty() && under_way.pending == 0;
        if self.under_way(id).is_some_and(|under_way| over(under_way)) {
            let failure = self.under_way(id).and_then(|under_way| under_way.failure);
            self.finish(id, failure.map_or(Ok(()), Err), io.out);
            for next in self.turns.end(id) {
                self.advance_request(next, io);
            }
        }
    }

    /// A request is over.
    pub(super) fn finish(&mut self, id: RequestId, result: Result<(), Failure>, out: &mut Outbox) {
        // Its number will be another's: nobody may wake that one for this one's sake.
        self.starved.retain(|starved| *starved != id);
        self.unbuffered.retain(|unbuffered| *unbuffered != id);
        for readers in self.loading.values_mut() {
            readers.retain(|reader| *reader != id);
        }
        if let Some(place) = self.requests.get_mut(usize::from(id.0)) {
            *place = None;
            out.done.push((id, result));
        }
    }

    fn piece(
        &mut self,
        request: &Request,
        piece: Piece,
        io: &mut Io<'_, impl Buffers>,
    ) -> Progress {
        let changes = match piece {
            Piece::Read(_) => false,
            // There is nothing to make durable.
            Piece::Flush => !self.read_only,
            _ => true,
        };
        // At a close nobody is left who could be told that more was written. What waits may go.
        let closing = self.closing_down && !matches!(piece, Piece::Flush);
        let refused = self.broken.or(closing.then_some(Failure::Io));
        if let Some(failure) = refused.filter(|_| changes) {
            return Progress::Failed(failure);
        }
        match piece {
            Piece::Read(extent) => self.read(request, extent, io),
            Piece::Whole(chunks) => self.write_whole(request, chunks, io),
            Piece::Zero(chunks) => self.write_zeros(request, chunks, io),
            Piece::Partial(extent) => self.write_partial(request, extent, io),
            Piece::Ready(extent, place) => self.write_ready(request, extent, place, io),
            Piece::Flush => match self.flush(request.id) {
                // Whoever makes its epoch durable finishes it.
                true => {
                    if let Some(under_way) = self.under_way(request.id) {
                        under_way.pending += 1;
                    }
                    Progress::Parked
                }
                false => Progress::Done,
            },
        }
    }

    /// Put the rest of a piece back, to go on when somebody wakes the request.
    pub(super) fn park(&mut self, id: RequestId, rest: Piece) -> Progress {
        if let Some(under_way) = self.under_way(id) {
            under_way.todo.push_front(rest);
        }
        Progress::Parked
    }

    /// Wait for a tree page.
    pub(super) fn ask(
        &mut self,
        id: RequestId,
        missing: Missing,
        rest: Piece,
        out: &mut Outbox,
    ) -> Progress {
        if self.given_up == Some(missing.entry.slot) {
            return Progress::Failed(Failure::Io);
        }
        if !self.load(missing, Some(id), out) && !self.unbuffered.contains(&id) {
            self.unbuffered.push_back(id);
        }
        self.park(id, rest)
    }

    /// Wait for room.
    pub(super) fn starve(&mut self, id: RequestId, rest: Piece) -> Progress {
        if !self.starved.contains(&id) {
            self.starved.push_back(id);
        }
        self.park(id, rest)
    }

    /// The part of the request's buffer that belongs to `extent`.
    pub(super) fn span(&self, request: &Request, extent: Extent) -> Span {
        Span {
            buffer: Buffer::Request(request.id),
            start: to_usize(extent.offset - request.extent.offset),
            len: to_usize(extent.len),
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "a length within a buffer fits an address, or nothing here is true"
)]
pub(super) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a length within a buffer")
}
