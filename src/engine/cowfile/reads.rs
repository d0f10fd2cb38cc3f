//! Reads: where each chunk is, and its bytes from there, checksums compared.

use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::delta::{Change, Fill};
use super::pending::{Io, Piece, Progress, Purpose};
use super::requests::to_usize;
use super::trees::Missing;
use crate::engine::command::{Action, Buffer, Buffers, Failure, Request, RequestId, Span};
use crate::engine::format::Entry;
use crate::engine::units::Extent;

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Staged(u32),
    Slot(Entry),
    Zero,
    Absent,
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// What is durable of a chunk: the journal's word, or else the trees'.
    pub(super) fn committed(&mut self, chunk: u64) -> Result<Entry, Missing> {
        let said = self.delta.get(chunk);
        let said = said.or_else(|| self.frozen.as_ref()?.get(chunk));
        match said {
            Some(Change::Put(entry)) => Ok(entry),
            Some(Change::Fill(Fill::Zero)) => Ok(Entry::ZERO),
            Some(Change::Fill(Fill::Unmap)) => self.look_up(chunk, 1),
            None => self.look_up(chunk, 0),
        }
    }

    /// Where the trees have a chunk, but for the uppermost `skipped`.
    fn look_up(&mut self, chunk: u64, skipped: usize) -> Result<Entry, Missing> {
        let layers = self.superblock.roots().skip(skipped);
        let found = match skipped {
            0 => self.trees.look_up(layers, chunk),
            _ => self.trees.look_below(layers, chunk),
        };
        match found {
            // Of a layer further down: it may be that this chunk does not need it.
            Err(missing) if self.unreadable.contains(&missing.entry.slot) => {
                let layers = self.superblock.roots().skip(skipped);
                self.trees.look_at_each(layers, chunk)
            }
            found => found,
        }
    }

    pub(super) fn place(&mut self, chunk: u64) -> Result<Place, Missing> {
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
    pub(super) fn read(
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
    pub(super) fn copy_scratch(
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
}
