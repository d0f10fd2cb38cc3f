//! What a merge copies at a time: chunks in ascending order, read in the order of their slots.

use super::mutant::{self, Mutant};
use super::{BaseMut, COMPARED, How, Side, Stopped, Watch};
use crate::engine::cowfile::offline::Offline;
use crate::engine::cowfile::recover::{Medium, Recovered};
use crate::engine::cowfile::trouble::Trouble;
use crate::engine::format::{Entry, Shape, page};

/// Slots of the longest read.
const LONGEST: u32 = 256;
/// Slots that are sooner read than passed over.
const GAP: u32 = 8;

/// Slots that are asked for before they are read.
const AHEAD: u32 = 8 * LONGEST;

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

    /// Read the chunks with data. Those that do not read, or not as they were written.
    pub(super) fn load(&mut self, medium: &mut impl Medium) -> Vec<u64> {
        let len = self.shape.chunk_len();
        let mut bytes = vec![0; self.entries.len() * len];
        let mut take = |number: usize, found: &[u8]| {
            let start = number * len;
            if let Some(place) = bytes.get_mut(start..start + len) {
                place.copy_from_slice(found);
            }
        };
        let lost = self.read(medium, &mut take, &mut |_| ());
        self.bytes = bytes;
        lost
    }

    /// The same, and nothing of it is kept. `watch` is told of chunks with data.
    pub(super) fn check(&self, medium: &mut impl Medium, watch: &mut Watch<'_>) -> Vec<u64> {
        self.read(medium, &mut |_, _| (), watch)
    }

    fn read(
        &self,
        medium: &mut impl Medium,
        take: &mut impl FnMut(usize, &[u8]),
        watch: &mut Watch<'_>,
    ) -> Vec<u64> {
        let entries = self.entries.iter().map(|(_, entry)| *entry);
        let mut order: Vec<(Entry, usize)> = entries.zip(0..).collect();
        order.sort_unstable_by_key(|(entry, _)| entry.slot);
        let runs: Vec<_> = order
            .chunk_by(near)
            .flat_map(|near| by_span(near))
            .collect();
        let mut hinted = runs.iter();
        let (mut lost, mut buffer) = (Vec::new(), Vec::new());
        let mut ahead = 0;
        for run in &runs {
            while ahead < AHEAD
                && let Some(run) = hinted.next()
            {
                let (first, slots) = span(run);
                medium.will_read(first, slots);
                ahead += slots;
            }
            ahead -= span(run).1;
            let mut tell = |number: usize, found: Option<&[u8]>| match found {
                Some(found) => take(number, found),
                None => lost.extend(self.entries.get(number).map(|(chunk, _)| *chunk)),
            };
            read_run(medium, self.shape, (run, &mut buffer), &mut tell);
            watch(run.len() as u64);
        }
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
    pub(super) fn drop_what_is_there(&mut self, base: &mut impl BaseMut) -> Result<(), Stopped> {
        if mutant::is(Mutant::ResumeTrusts) {
            // As a mark would that was moved before its data: what begins right is taken to be right.
            let first = self.pieces.first().copied();
            if let Some(first) = first
                && self
                    .difference_in(base, &Piece { count: 1, ..first })?
                    .is_none()
            {
                self.pieces.clear();
            }
            return Ok(());
        }
        let mut left = Vec::new();
        for piece in std::mem::take(&mut self.pieces) {
            for one in self.split(piece) {
                if self.difference_in(base, &one)?.is_none() {
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
    pub(super) fn first_difference(&self, base: &mut impl BaseMut) -> Result<Option<u64>, Stopped> {
        for piece in &self.pieces {
            if let Some(offset) = self.difference_in(base, piece)? {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    fn difference_in(
        &self,
        base: &mut impl BaseMut,
        piece: &Piece,
    ) -> Result<Option<u64>, Stopped> {
        let (start, len) = (self.offset(piece), self.len(piece));
        first_difference(base, start, len, self.bytes(piece))
    }
}

/// The first byte of a stretch that is not as it is to be: these bytes, or zeros.
pub(super) fn first_difference(
    base: &mut impl BaseMut,
    start: u64,
    len: u64,
    wanted: Option<&[u8]>,
) -> Result<Option<u64>, Stopped> {
    let mut there = Vec::new();
    let mut done = 0;
    while done < len {
        let part = usize::try_from(len - done).map_or(COMPARED, |left| left.min(COMPARED));
        there.resize(part, 0);
        let offset = start + done;
        base.read(offset, &mut there)
            .map_err(|failure| Stopped::Failed {
                side: Side::Base,
                doing: "reading",
                offset,
                failure,
            })?;
        let from = usize::try_from(done).unwrap_or(usize::MAX);
        let is_as_wanted = match wanted {
            Some(wanted) => wanted.get(from..from.saturating_add(part)) == Some(&there),
            None => there.iter().all(|byte| *byte == 0),
        };
        if !is_as_wanted {
            return Ok(Some(offset));
        }
        done += part as u64;
    }
    Ok(None)
}

/// Whether two chunks are read at once, with what lies between them.
fn near((one, _): &(Entry, usize), (next, _): &(Entry, usize)) -> bool {
    next.slot - one.slot <= GAP
}

/// Chunks near each other, in parts that are not too long for one read.
fn by_span(mut near: &[(Entry, usize)]) -> Vec<&[(Entry, usize)]> {
    let mut parts = Vec::new();
    while let Some((first, _)) = near.first() {
        let end = near.partition_point(|(entry, _)| entry.slot - first.slot < LONGEST);
        let (part, rest) = near.split_at(end);
        parts.push(part);
        near = rest;
    }
    parts
}

/// The first slot of a run, and how many there are to its last.
fn span(run: &[(Entry, usize)]) -> (u32, u32) {
    let slot = |one: Option<&(Entry, usize)>| one.map_or(0, |(entry, _)| entry.slot);
    let first = slot(run.first());
    (first, slot(run.last()) - first + 1)
}

/// Slots near each other with one read; if that fails, each with its own. `tell` hears what each is, or nothing where it
/// does not read, or not as it was written.
fn read_run(
    medium: &mut impl Medium,
    shape: Shape,
    (run, buffer): (&[(Entry, usize)], &mut Vec<u8>),
    tell: &mut impl FnMut(usize, Option<&[u8]>),
) {
    let (first, slots) = span(run);
    buffer.resize((slots as usize) << shape.chunk_shift, 0);
    let is_read = medium.read(first, buffer).is_ok();
    if !is_read && run.len() > 1 {
        for one in run.chunks(1) {
            read_run(medium, shape, (one, buffer), tell);
        }
        return;
    }
    for (entry, number) in run {
        let found = buffer
            .chunks(shape.chunk_len())
            .nth((entry.slot - first) as usize);
        tell(
            *number,
            found.filter(|found| is_read && page::checksum(found) == entry.crc),
        );
    }
}
