//! Requests: reads of what is where, writes into staging memory.

use std::ops::{Deref, Range};
use std::sync::atomic::AtomicU32;

use super::delta::Change;
use super::pending::{Io, Pending, Piece, Progress, Purpose, UnderWay};
use super::room::Admission;
use super::trees::Missing;
use super::{Cowfile, delta::Fill};
use crate::engine::command::{
    Action, Buffer, Buffers, Command, CommandId, Failure, Op, Outbox, Outcome, Request, RequestId,
    Span,
};
use crate::engine::format::{Entry, page};
use crate::engine::units::{ChunkIndex, Extent};

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Staged(u32),
    Slot(Entry),
    Zero,
    Absent,
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// A request comes in. Its number must not be under way.
    pub fn submit(&mut self, request: Request, buffers: &mut impl Buffers, out: &mut Outbox) {
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
                        self.from_scratch(request, into, piece, io);
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
                missing,
                buffer,
                scan,
            } => return self.loaded((missing, buffer, scan), result, io),
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
        let changes = !matches!(piece, Piece::Read(_));
        if let Some(failure) = self.broken.filter(|_| changes) {
            return Progress::Failed(failure);
        }
        match piece {
            Piece::Read(extent) => self.read(request, extent, io),
            Piece::Whole(chunks) => self.write_whole(request, chunks, io),
            Piece::Zero(chunks) => self.write_zeros(request, chunks),
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
    fn park(&mut self, id: RequestId, rest: Piece) -> Progress {
        if let Some(under_way) = self.under_way(id) {
            under_way.todo.push_front(rest);
        }
        Progress::Parked
    }

    /// Wait for a tree page.
    fn ask(&mut self, id: RequestId, missing: Missing, rest: Piece, out: &mut Outbox) -> Progress {
        if self.load(missing, Some(id), out) {
            self.park(id, rest)
        } else {
            // No buffer to read it into: as good as no room.
            self.starve(id, rest)
        }
    }

    /// Wait for room.
    fn starve(&mut self, id: RequestId, rest: Piece) -> Progress {
        self.starved.push_back(id);
        self.park(id, rest)
    }

    /// What is durable of a chunk: the journal's word, or else the trees'.
    pub(super) fn committed(&mut self, chunk: u64) -> Result<Entry, Missing> {
        let said = self.delta.get(chunk);
        let said = said.or_else(|| self.frozen.as_ref()?.get(chunk));
        match said {
            Some(Change::Put(entry)) => Ok(entry),
            Some(Change::Fill(Fill::Zero)) => Ok(Entry::ZERO),
            Some(Change::Fill(Fill::Unmap)) => {
                let layers = self.layers();
                self.trees
                    .look_up(layers.get(1..).unwrap_or_default(), chunk)
            }
            None => {
                let layers = self.layers();
                self.trees.look_up(&layers, chunk)
            }
        }
    }

    fn place(&mut self, chunk: u64) -> Result<Place, Missing> {
        Ok(match self.staging.get(chunk) {
            Some(Change::Put(place)) => Place::Staged(place),
            Some(Change::Fill(_)) => Place::Zero,
            None => match self.committed(chunk)? {
                Entry::ABSENT => Place::Absent,
                Entry::ZERO => Place::Zero,
                entry => Place::Slot(entry),
            },
        })
    }

    /// Read as far as the tree pages in RAM tell where things are; then wait for the next page, and go
    /// on from there.
    fn read(
        &mut self,
        request: &Request,
        extent: Extent,
        io: &mut Io<'_, impl Buffers>,
    ) -> Progress {
        let (mut places, mut missing) = (Vec::new(), None);
        let chunks = self.geometry.touched(extent);
        for chunk in chunks.clone() {
            match self.place(chunk) {
                Ok(place) => places.push(place),
                Err(page) => {
                    missing = Some((chunk, page));
                    break;
                }
            }
        }
        self.read_places(request, extent, (chunks.start, places), io);
        let Some((chunk, page)) = missing else {
            return Progress::Done;
        };
        let start = extent.offset.max(chunk * self.shape.chunk_bytes());
        let rest = Extent {
            offset: start,
            len: extent.end() - start,
        };
        self.ask(request.id, page, Piece::Read(rest), io.out)
    }

    /// Read chunks from where they are, neighbours at once.
    fn read_places(
        &mut self,
        request: &Request,
        extent: Extent,
        (first, places): (u64, Vec<Place>),
        io: &mut Io<'_, impl Buffers>,
    ) {
        let chunk_bytes = self.shape.chunk_bytes();
        let mut chunks = (first..).zip(places).peekable();
        while let Some((chunk, place)) = chunks.next() {
            let part = self.part(extent, chunk);
            match place {
                Place::Staged(place) => {
                    let from = self.within_chunk(self.pool_span(place), part);
                    io.buffers.copy(from, self.span(request, part));
                }
                Place::Zero => io.buffers.bytes_mut(self.span(request, part)).fill(0),
                Place::Absent => {
                    let mut end = part.end();
                    while let Some((next, _)) = chunks.next_if(|(_, place)| *place == Place::Absent)
                    {
                        end = self.part(extent, next).end();
                    }
                    let len = end - part.offset;
                    self.read_base(request, Extent { len, ..part }, io);
                }
                Place::Slot(entry) => {
                    let mut crcs = vec![entry.crc];
                    while part.len == chunk_bytes
                        && let Some(next) = chunks.peek().and_then(|&(next, place)| match place {
                            Place::Slot(next_entry)
                                if u64::from(next_entry.slot)
                                    == u64::from(entry.slot) + crcs.len() as u64
                                    && self.part(extent, next).len == chunk_bytes =>
                            {
                                Some(next_entry.crc)
                            }
                            _ => None,
                        })
                    {
                        crcs.push(next);
                        chunks.next();
                    }
                    self.read_slots(request, part, (entry.slot, crcs), io);
                }
            }
        }
    }

    /// The base, and zeros behind its end.
    fn read_base(&mut self, request: &Request, extent: Extent, io: &mut Io<'_, impl Buffers>) {
        let base_end = self.geometry.base_bytes.clamp(extent.offset, extent.end());
        let behind = Extent {
            offset: base_end,
            len: extent.end() - base_end,
        };
        io.buffers.bytes_mut(self.span(request, behind)).fill(0);
        let len = base_end - extent.offset;
        if len > 0 {
            let into = self.span(request, Extent { len, ..extent });
            let action = Action::ReadBase {
                offset: extent.offset,
                into,
            };
            self.command(action, Purpose::FromBase, Some(request.id), io.out);
        }
    }

    /// Consecutive slots for consecutive chunks; a part of a chunk goes through scratch memory, for its
    /// checksum is of the whole.
    fn read_slots(
        &mut self,
        request: &Request,
        part: Extent,
        (first, crcs): (u32, Vec<u32>),
        io: &mut Io<'_, impl Buffers>,
    ) {
        let (into, scratch) = if part.len == self.shape.chunk_bytes() {
            let len = part.len * crcs.len() as u64;
            (self.span(request, Extent { len, ..part }), None)
        } else {
            let Some(scratch) = self.scratch.pop() else {
                debug_assert!(false, "two scratch chunks for each request are enough");
                return self.fail(request.id, Failure::Io);
            };
            let into = Span {
                buffer: Buffer::Scratch(scratch),
                start: 0,
                len: self.shape.chunk_len(),
            };
            (into, Some((scratch, part)))
        };
        for (slot, _) in (first..).zip(&crcs) {
            self.space.pin(slot);
        }
        let action = Action::ReadCow {
            offset: self.shape.offset_bytes(first),
            into,
        };
        let purpose = Purpose::FromSlots {
            first,
            crcs,
            into,
            scratch,
        };
        self.command(action, purpose, Some(request.id), io.out);
    }

    /// A chunk is in scratch memory: the request wants a part of it.
    fn from_scratch(
        &mut self,
        id: RequestId,
        from: Span,
        part: Extent,
        io: &mut Io<'_, impl Buffers>,
    ) {
        if let Some(request) = self.under_way(id).map(|under_way| under_way.request) {
            let to = self.span(&request, part);
            io.buffers.copy(self.within_chunk(from, part), to);
        }
    }

    /// What of `extent` lies in `chunk`.
    fn part(&self, extent: Extent, chunk: u64) -> Extent {
        let start = extent.offset.max(chunk * self.shape.chunk_bytes());
        let end = extent.end().min((chunk + 1) * self.shape.chunk_bytes());
        Extent {
            offset: start,
            len: end - start,
        }
    }

    /// The same part of a chunk that is in `whole`.
    pub(super) fn within_chunk(&self, whole: Span, part: Extent) -> Span {
        let start = part.offset % self.shape.chunk_bytes();
        whole.part(to_usize(start), to_usize(part.len))
    }

    /// The part of the request's buffer that belongs to `extent`.
    pub(super) fn span(&self, request: &Request, extent: Extent) -> Span {
        Span {
            buffer: Buffer::Request(request.id),
            start: to_usize(extent.offset - request.extent.offset),
            len: to_usize(extent.len),
        }
    }

    fn write_whole(
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
                match self.zero(request, chunk..chunk + 1, rest) {
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
        match self.staging.take().filter(|_| self.staging.has_room()) {
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

    fn write_zeros(&mut self, request: &Request, chunks: Range<u64>) -> Progress {
        let mut first = chunks.start;
        while first < chunks.end {
            let end = chunks.end.min(first + u64::from(u32::MAX));
            match self.zero(request, first..end, Piece::Zero(first..chunks.end)) {
                Progress::Done => first = end,
                other => return other,
            }
        }
        Progress::Done
    }

    /// Let chunks, fewer than 2^32, be zeros.
    fn zero(&mut self, request: &Request, chunks: Range<u64>, rest: Piece) -> Progress {
        match self.admit_fill() {
            Admission::Yes if self.staging.has_room() => {
                let count = u32::try_from(chunks.end - chunks.start).unwrap_or(u32::MAX);
                self.staging.zero(chunks.start, count);
                Progress::Done
            }
            Admission::No => Progress::Failed(Failure::NoSpace),
            _ => self.starve(request.id, rest),
        }
    }

    /// Write, or zero, a part of one chunk: over its copy in the open epoch, or over its old content.
    fn write_partial(
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
    fn write_ready(
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

#[expect(
    clippy::expect_used,
    reason = "a length within a buffer fits an address, or nothing here is true"
)]
fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a length within a buffer")
}
