//! What a merge copies at a time: chunks in ascending order.

use super::compare::Compare;
use super::mutant::{self, Mutant};
use super::scrub::Lost;
use super::{BaseMut, COMPARED, How, Stopped, Watch};
use crate::engine::cowfile::offline::Offline;
use crate::engine::cowfile::recover::{Medium, Recovered};
use crate::engine::cowfile::slots;
use crate::engine::format::{Entry, Shape};

/// Reads of the base that fail in a batch before no more are tried.
const ENOUGH: u32 = 16;

/// All batches, from the first chunk to the last.
pub(super) struct Batches {
    offline: Offline,
    shape: Shape,
    device_bytes: u64,
    chunks: u64,
    at: u64,
    most: u64,
    zeros: u64,
}

/// Chunks in a row that are all data, or all zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) chunk: u64,
    pub(super) count: u64,
    /// Where in the batch's bytes.
    start: Option<usize>,
}

/// Some chunks, ascending.
pub(super) struct Batch {
    shape: Shape,
    device_bytes: u64,
    pieces: Vec<Piece>,
    /// Of the chunks with data, in order.
    entries: Vec<(u64, Entry)>,
    bytes: Vec<u8>,
}

impl Batches {
    pub(super) fn new(found: &Recovered, how: How) -> Self {
        let superblock = &found.superblock;
        Self {
            shape: superblock.shape,
            device_bytes: superblock.device_bytes,
            chunks: superblock.chunks(),
            offline: Offline::from(found.clone(), how.top),
            at: 0,
            most: how.batch_chunks.max(1),
            zeros: how.zeros.max(1),
        }
    }

    /// The next one; its chunks with data are not read yet. Without those of which nothing says what they are; none once
    /// too much is lost.
    pub(super) fn next(&mut self, medium: &mut impl Medium, lost: &mut Lost) -> Option<Batch> {
        let mut batch = Batch {
            shape: self.shape,
            device_bytes: self.device_bytes,
            pieces: Vec::new(),
            entries: Vec::new(),
            bytes: Vec::new(),
        };
        let mut taken = 0;
        while self.at < self.chunks && taken < self.most && lost.left() > 0 {
            let (entry, end) = match self.offline.stretch(medium, self.at) {
                Ok(found) => found,
                Err(unknown) => {
                    lost.has_failed(u32::from(unknown.has_failed));
                    lost.add(self.at, unknown.end);
                    self.at = unknown.end;
                    continue;
                }
            };
            let end = end.clamp(self.at + 1, self.chunks);
            let room = (self.most - taken).saturating_mul(self.zeros);
            let count = match entry {
                Entry::ABSENT => end - self.at,
                Entry::ZERO => (end - self.at).min(room),
                _ => 1,
            };
            if entry != Entry::ABSENT {
                batch.add(self.at, count, entry);
                taken += match entry.is_slot() {
                    true => count,
                    false => count.div_ceil(self.zeros),
                };
            }
            self.at += count;
        }
        (!batch.pieces.is_empty()).then_some(batch)
    }
}

impl Batch {
    fn add(&mut self, chunk: u64, count: u64, entry: Entry) {
        let start = entry
            .is_slot()
            .then(|| self.entries.len() << self.shape.chunk_shift);
        if entry.is_slot() {
            self.entries.push((chunk, entry));
        }
        match self.pieces.last_mut() {
            Some(last)
                if last.chunk + last.count == chunk && last.start.is_some() == start.is_some() =>
            {
                last.count += count;
            }
            _ => self.pieces.push(Piece {
                chunk,
                count,
                start,
            }),
        }
    }

    /// Read the chunks with data into `bytes`, whatever is in there.
    pub(super) fn load(&mut self, medium: &mut impl Medium, mut bytes: Vec<u8>, lost: &mut Lost) {
        bytes.resize(self.entries.len() * self.shape.chunk_len(), 0);
        self.read(medium, Some(&mut bytes), lost, &mut |_| ());
        self.bytes = bytes;
    }

    /// What it was loaded into, for another one: new memory costs as much as a copy.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Read them, and keep nothing of it. `watch` is told of chunks with data.
    pub(super) fn check(&self, medium: &mut impl Medium, lost: &mut Lost, watch: &mut Watch<'_>) {
        self.read(medium, None, lost, watch);
    }

    fn read(
        &self,
        medium: &mut impl Medium,
        into: Option<&mut [u8]>,
        lost: &mut Lost,
        watch: &mut Watch<'_>,
    ) {
        let entries = self.entries.iter().map(|(_, entry)| *entry);
        let bad = slots::read(medium, self.shape, entries, into, (lost.left(), watch));
        lost.has_failed(bad.unreadable);
        for number in bad.numbers {
            if let Some((chunk, _)) = self.entries.get(number) {
                lost.add(*chunk, chunk + 1);
            }
        }
    }

    /// Chunks with data, and with zeros.
    pub(super) fn counts(&self) -> (u64, u64) {
        let zeros = self.pieces.iter().filter(|piece| piece.start.is_none());
        (
            self.entries.len() as u64,
            zeros.map(|piece| piece.count).sum(),
        )
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    pub(super) fn chunk_bytes(&self) -> u64 {
        self.shape.chunk_bytes()
    }

    pub(super) fn offset(&self, piece: &Piece) -> u64 {
        piece.chunk << self.shape.chunk_shift
    }

    /// Bytes of a piece; the device may end within its last chunk.
    pub(super) fn len(&self, piece: &Piece) -> u64 {
        let end = (piece.chunk + piece.count) << self.shape.chunk_shift;
        end.min(self.device_bytes) - self.offset(piece)
    }

    /// What is to be there; `None`: zeros.
    pub(super) fn bytes(&self, piece: &Piece) -> Option<&[u8]> {
        let start = piece.start?;
        let len = usize::try_from(self.len(piece)).unwrap_or(usize::MAX);
        self.bytes.get(start..start.saturating_add(len))
    }

    /// Let all of it be read from the medium of the base next, not from a cache, and let that begin.
    pub(super) fn read_anew(&self, base: &mut impl BaseMut) {
        if let (Some(first), Some(last)) = (self.pieces.first(), self.pieces.last()) {
            let start = self.offset(first);
            base.forget(start, self.offset(last) + self.len(last) - start);
        }
        self.will_read(base);
    }

    /// All of it is read from the base next.
    pub(super) fn will_read(&self, base: &mut impl BaseMut) {
        for piece in &self.pieces {
            // Zeros may be much, and one after the other.
            let len = match piece.start {
                Some(_) => self.len(piece),
                None => self.len(piece).min(COMPARED as u64),
            };
            base.will_read(self.offset(piece), len);
        }
    }

    /// Leave out what the base has already.
    pub(super) fn drop_what_is_there(
        &mut self,
        base: &mut impl BaseMut,
        compare: &mut Compare,
    ) -> Result<(), Stopped> {
        if mutant::is(Mutant::ResumeTrusts) {
            // As a mark would that was moved before its data: what begins right is taken to be right.
            let first = self.pieces.first().copied();
            if let Some(first) = first
                && self
                    .difference_in(base, compare, &Piece { count: 1, ..first })?
                    .is_none()
            {
                self.pieces.clear();
            }
            return Ok(());
        }
        let (mut left, mut failed) = (Vec::new(), 0);
        for piece in std::mem::take(&mut self.pieces) {
            for one in self.split(piece) {
                // What does not read is not as it is to be: it may when it was written. Each try may take seconds.
                if failed < ENOUGH {
                    match self.difference_in(base, compare, &one) {
                        Ok(None) => continue,
                        Ok(Some(_)) => {}
                        Err(_) => failed += 1,
                    }
                }
                match left.last_mut() {
                    Some(Piece {
                        chunk,
                        count,
                        start,
                    }) if *chunk + *count == one.chunk
                        && start.is_some() == one.start.is_some() =>
                    {
                        *count += one.count;
                    }
                    _ => left.push(one),
                }
            }
        }
        self.pieces = left;
        Ok(())
    }

    /// A piece chunk by chunk; zeros as they are.
    fn split(&self, piece: Piece) -> Vec<Piece> {
        let Some(start) = piece.start else {
            return vec![piece];
        };
        let len = self.shape.chunk_len();
        let starts = (start..).step_by(len);
        let chunks = piece.chunk..piece.chunk + piece.count;
        chunks
            .zip(starts)
            .map(|(chunk, start)| Piece {
                chunk,
                count: 1,
                start: Some(start),
            })
            .collect()
    }

    /// The first byte of the base that is not as it is to be.
    pub(super) fn first_difference(
        &self,
        base: &mut impl BaseMut,
        compare: &mut Compare,
    ) -> Result<Option<u64>, Stopped> {
        for piece in &self.pieces {
            if let Some(offset) = self.difference_in(base, compare, piece)? {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    fn difference_in(
        &self,
        base: &mut impl BaseMut,
        compare: &mut Compare,
        piece: &Piece,
    ) -> Result<Option<u64>, Stopped> {
        let (start, len) = (self.offset(piece), self.len(piece));
        compare.first_difference(base, start, len, self.bytes(piece))
    }
}
