//! What a merge copies at a time: chunks in ascending order.

use super::compare::Compare;
use super::mutant::{self, Mutant};
use super::{BaseMut, COMPARED, How, Stopped, Watch, slots};
use crate::engine::cowfile::offline::Offline;
use crate::engine::cowfile::recover::{Medium, Recovered};
use crate::engine::cowfile::trouble::Trouble;
use crate::engine::format::{Entry, Shape};

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

    /// The next one; its chunks with data are not read yet.
    pub(super) fn next(&mut self, medium: &mut impl Medium) -> Result<Option<Batch>, Trouble> {
        let mut batch = Batch {
            shape: self.shape,
            device_bytes: self.device_bytes,
            pieces: Vec::new(),
            entries: Vec::new(),
            bytes: Vec::new(),
        };
        let mut taken = 0;
        while self.at < self.chunks && taken < self.most {
            let (entry, end) = self.offline.stretch(medium, self.at)?;
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
        Ok((!batch.pieces.is_empty()).then_some(batch))
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

    /// Read the chunks with data into `bytes`, whatever is in there. Those that do not read, or not as they were written.
    pub(super) fn load(&mut self, medium: &mut impl Medium, mut bytes: Vec<u8>) -> Vec<u64> {
        bytes.resize(self.entries.len() * self.shape.chunk_len(), 0);
        let lost = self.read(medium, Some(&mut bytes), &mut |_| ());
        self.bytes = bytes;
        lost
    }

    /// What it was loaded into, for another one: new memory costs as much as a copy.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Read them, and keep nothing of it. `watch` is told of chunks with data.
    pub(super) fn check(&self, medium: &mut impl Medium, watch: &mut Watch<'_>) -> Vec<u64> {
        self.read(medium, None, watch)
    }

    fn read(
        &self,
        medium: &mut impl Medium,
        into: Option<&mut [u8]>,
        watch: &mut Watch<'_>,
    ) -> Vec<u64> {
        let entries = self.entries.iter().map(|(_, entry)| *entry);
        let lost = slots::read(medium, self.shape, entries, into, watch).into_iter();
        let chunk = |number: usize| self.entries.get(number).map(|(chunk, _)| *chunk);
        let mut lost: Vec<u64> = lost.filter_map(chunk).collect();
        lost.sort_unstable();
        lost
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
        let mut left = Vec::new();
        for piece in std::mem::take(&mut self.pieces) {
            for one in self.split(piece) {
                if self.difference_in(base, compare, &one)?.is_none() {
                    continue;
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
