//! How recovery reads: long reads, and few, for each may cost a slow disk a millisecond.

use super::recover::Medium;
use crate::engine::command::Failure;
use crate::engine::format::{Shape, page};

/// Slots of the longest read, which is all the memory that is taken.
const LONGEST: u32 = 256;
/// Slots that are read ahead at most.
const AHEAD: u32 = 64;
/// Slots that are sooner read than passed over: at 30 MB/s these take a millisecond.
const GAP: u32 = 8;

/// Whether every slot has the checksum that is said of it, in whatever order they are named. If a slot
/// does not read, which one.
pub(super) fn all_match(
    medium: &mut impl Medium,
    shape: Shape,
    named: impl Iterator<Item = (u32, u32)>,
) -> Result<bool, u32> {
    let mut named: Vec<(u32, u32)> = named.collect();
    named.sort_unstable();
    let (mut bytes, mut rest) = (Vec::new(), named.as_slice());
    while let Some(&(first, _)) = rest.first() {
        let near = |&((one, _), (next, _)): &((u32, u32), (u32, u32))| {
            next - one <= GAP && next - first < LONGEST
        };
        let pairs = rest.iter().copied().zip(rest.iter().skip(1).copied());
        let (run, behind) = rest.split_at(1 + pairs.take_while(near).count());
        if !run_matches(medium, shape, run, &mut bytes)? {
            return Ok(false);
        }
        rest = behind;
    }
    Ok(true)
}

/// The same of slots that are near each other, with one read.
fn run_matches(
    medium: &mut impl Medium,
    shape: Shape,
    run: &[(u32, u32)],
    bytes: &mut Vec<u8>,
) -> Result<bool, u32> {
    let (Some(&(first, _)), Some(&(last, _))) = (run.first(), run.last()) else {
        return Ok(true);
    };
    bytes.resize(((last - first + 1) as usize) << shape.chunk_shift, 0);
    if medium.read(first, bytes).is_err() {
        if let [(slot, _)] = run {
            return Err(*slot);
        }
        // What does not read may be none of them.
        for one in run.chunks(1) {
            if !run_matches(medium, shape, one, bytes)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let matches = |&(slot, crc): &(u32, u32)| {
        let chunk = bytes.chunks(shape.chunk_len()).nth((slot - first) as usize);
        chunk.is_some_and(|chunk| page::checksum(chunk) == crc)
    };
    Ok(run.iter().all(matches))
}

/// Slots read one after the other, further ahead the longer they are near each other.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The first slot that is here, and all that are.
    first: u32,
    bytes: Vec<u8>,
    /// The last one that was asked for, and how many were read for it at most.
    last: u32,
    window: u32,
}

impl Ahead {
    /// The bytes of a slot.
    pub(super) fn slot(
        &mut self,
        medium: &mut impl Medium,
        shape: Shape,
        slot: u32,
    ) -> Result<&[u8], Failure> {
        let here = u32::try_from(self.bytes.len() >> shape.chunk_shift).unwrap_or_default();
        let near = self.last < slot && slot - self.last <= GAP;
        self.last = slot;
        if slot < self.first || slot - self.first >= here {
            self.window = if near {
                (2 * self.window).clamp(1, AHEAD)
            } else {
                1
            };
            let count = self.window.min(medium.slots().saturating_sub(slot)).max(1);
            self.first = slot;
            self.bytes.resize((count as usize) << shape.chunk_shift, 0);
            let mut read = medium.read(slot, &mut self.bytes);
            if read.is_err() && count > 1 {
                // What does not read may be none that anybody asks for.
                self.bytes.truncate(shape.chunk_len());
                read = medium.read(slot, &mut self.bytes);
            }
            if let Err(failure) = read {
                self.bytes.clear();
                return Err(failure);
            }
        }
        let start = ((slot - self.first) as usize) << shape.chunk_shift;
        let found = self.bytes.get(start..start + shape.chunk_len());
        found.ok_or(Failure::Io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        chunk_shift: 10,
        fanout_shift: 2,
        zone_slots: 8,
    };

    /// Slots that hold their number, but for one that does not read.
    struct Numbers {
        bad: u32,
        reads: usize,
    }

    impl Medium for Numbers {
        fn slots(&mut self) -> u32 {
            1000
        }

        fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
            self.reads += 1;
            for (slot, chunk) in (slot..).zip(into.chunks_mut(SHAPE.chunk_len())) {
                if slot == self.bad || slot >= 1000 {
                    return Err(Failure::Io);
                }
                chunk.copy_from_slice(&content(slot));
            }
            Ok(())
        }
    }

    fn content(slot: u32) -> Vec<u8> {
        slot.to_le_bytes().repeat(SHAPE.chunk_len() / 4)
    }

    fn named(slot: u32) -> (u32, u32) {
        (slot, page::checksum(&content(slot)))
    }

    #[test]
    fn neighbours_are_compared_with_one_read_and_an_error_between_them_is_passed_over() {
        let check = |slots: &[u32], bad| {
            let mut medium = Numbers { bad, reads: 0 };
            let named = slots.iter().copied().map(named);
            (all_match(&mut medium, SHAPE, named), medium.reads)
        };
        assert_eq!(check(&[20, 22, 21, 30, 90], 0), (Ok(true), 2));
        assert_eq!(check(&[20, 22], 21), (Ok(true), 3));
        assert_eq!(check(&[20, 22], 22), (Err(22), 3));
        assert_eq!(
            check(&[20, 1000], 0),
            (Err(1000), 2),
            "what is not there does not read"
        );
        let long: Vec<u32> = (100..100 + 2 * LONGEST).collect();
        assert_eq!(check(&long, 0), (Ok(true), 2));
        let mut medium = Numbers { bad: 0, reads: 0 };
        let wrong = [named(20), (21, 1)].into_iter();
        assert_eq!(all_match(&mut medium, SHAPE, wrong), Ok(false));
    }

    #[test]
    fn pages_near_each_other_are_read_ahead() {
        let read = |slots: &[u32], bad| {
            let (mut medium, mut ahead) = (Numbers { bad, reads: 0 }, Ahead::default());
            for &slot in slots {
                let found = ahead.slot(&mut medium, SHAPE, slot);
                assert_eq!(found.ok(), (slot != bad).then(|| content(slot)).as_deref());
            }
            medium.reads
        };
        assert_eq!(read(&[100, 200, 300], 0), 3);
        let every_third: Vec<u32> = (100..700).step_by(3).collect();
        assert!(read(&every_third, 0) < 20);
        assert!(read(&every_third, 300 + 2) < 40);
        assert_eq!(read(&[999, 998], 0), 2);
        read(&[10, 12, 14, 16], 14);
    }
}
