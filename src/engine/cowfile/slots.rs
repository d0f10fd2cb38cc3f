//! Chunks of a closed cowfile read from their slots: in ascending order, those near each other with one read.

use super::recover::Medium;
use crate::engine::command::Failure;
use crate::engine::format::{Entry, Shape, page};

/// Slots of the longest read.
const LONGEST: u32 = 256;
/// Slots that are sooner read than passed over.
const GAP: u32 = 8;
/// Slots that are asked for before they are read.
const AHEAD: u32 = 8 * LONGEST;

/// Chunks in ascending order of their slots, and their numbers in the order they were asked for.
type Run = [(Entry, usize)];

/// What was not as it should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bad {
    /// The numbers of chunks that do not read, or not as they were written.
    pub numbers: Vec<usize>,
    /// How many of them do not read.
    pub unreadable: u32,
}

/// Read these chunks, one behind the other `into` that, or only to compare them with their checksums. `watch` is told how
/// many were read. Once `most` do not read, the rest is not tried.
pub fn read(
    medium: &mut impl Medium,
    shape: Shape,
    entries: impl Iterator<Item = Entry>,
    into: Option<&mut [u8]>,
    (most, watch): (u32, &mut dyn FnMut(u64)),
) -> Bad {
    let mut order: Vec<(Entry, usize)> = entries.zip(0..).collect();
    order.sort_unstable_by_key(|(entry, _)| entry.slot);
    let runs: Vec<&Run> = order
        .chunk_by(near)
        .flat_map(|near| by_span(near))
        .collect();
    let mut reading = Reading {
        medium,
        shape,
        into,
        buffer: Vec::new(),
        most,
        bad: Bad::default(),
    };
    let (mut hinted, mut ahead) = (runs.iter(), 0);
    for run in &runs {
        while ahead < AHEAD
            && let Some(run) = hinted.next()
        {
            let (first, slots) = span(run);
            reading.medium.will_read(first, slots);
            ahead += slots;
        }
        ahead -= span(run).1;
        reading.run(run);
        watch(run.len() as u64);
    }
    let mut bad = reading.bad;
    bad.numbers.sort_unstable();
    bad
}

struct Reading<'a, M> {
    medium: &'a mut M,
    shape: Shape,
    into: Option<&'a mut [u8]>,
    /// For what does not go where it belongs at once.
    buffer: Vec<u8>,
    most: u32,
    bad: Bad,
}

impl<M: Medium> Reading<'_, M> {
    /// A run with one read; if that fails, each chunk with its own.
    fn run(&mut self, run: &Run) {
        if self.bad.unreadable >= self.most {
            return;
        }
        match self.read(run) {
            Ok(wrong) => self.bad.numbers.extend(wrong),
            Err(_) if run.len() > 1 => run.chunks(1).for_each(|one| self.run(one)),
            Err(_) => {
                self.bad.unreadable += 1;
                let numbers = run.iter().map(|(_, number)| *number);
                self.bad.numbers.extend(numbers);
            }
        }
    }

    /// The numbers of what is not as it was written.
    fn read(&mut self, run: &Run) -> Result<Vec<usize>, Failure> {
        let (first, slots) = span(run);
        let (shape, len) = (self.shape, self.shape.chunk_len());
        let bytes = slots as usize * len;
        let place = match (&mut self.into, run.first()) {
            (Some(into), Some((_, number))) if is_in_a_row(run) => {
                into.get_mut(number * len..number * len + bytes)
            }
            _ => None,
        };
        if let Some(place) = place {
            self.medium.read(first, place)?;
            return Ok(wrong(run, place, shape, &mut |_, _| ()));
        }
        self.buffer.resize(bytes, 0);
        self.medium.read(first, &mut self.buffer)?;
        let into = &mut self.into;
        Ok(wrong(run, &self.buffer, shape, &mut |number, found| {
            let place = into
                .as_mut()
                .and_then(|into| into.get_mut(number * len..number * len + len));
            if let Some(place) = place {
                place.copy_from_slice(found);
            }
        }))
    }
}

/// The numbers of those of `run` that are not as they were written; `found` is what was read. The others are told to
/// `take`.
fn wrong(run: &Run, found: &[u8], shape: Shape, take: &mut dyn FnMut(usize, &[u8])) -> Vec<usize> {
    let (first, _) = span(run);
    let mut wrong = Vec::new();
    for (entry, number) in run {
        let mut chunks = found.chunks(shape.chunk_len());
        match chunks.nth((entry.slot - first) as usize) {
            Some(found) if page::checksum(found) == entry.crc => take(*number, found),
            _ => wrong.push(*number),
        }
    }
    wrong
}

/// Whether two chunks are read at once, with what lies between them.
fn near((one, _): &(Entry, usize), (next, _): &(Entry, usize)) -> bool {
    next.slot - one.slot <= GAP
}

/// Whether chunks lie one behind the other, where they are and where they go.
fn is_in_a_row(run: &Run) -> bool {
    run.is_sorted_by(|(one, number), (next, after)| {
        next.slot == one.slot + 1 && *after == number + 1
    })
}

/// Chunks near each other, in parts that are not too long for one read.
fn by_span(mut near: &Run) -> Vec<&Run> {
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
fn span(run: &Run) -> (u32, u32) {
    let slot = |one: Option<&(Entry, usize)>| one.map_or(0, |(entry, _)| entry.slot);
    let first = slot(run.first());
    (first, slot(run.last()) - first + 1)
}
