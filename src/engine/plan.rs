//! What a request means, as a value: where each stretch of a read comes from, and how a write or a
//! write-zeroes falls into whole and partial chunks. Touches no data, so needs no disk to test.

use std::ops::Range;

use crate::engine::map::Place;
use crate::engine::units::{ChunkIndex, Extent, Slot};

/// The sizes a plan must respect. The device may be larger than its base, or end within a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of the device.
    pub device_bytes: u64,
    /// Bytes of the base; the device reads as zeros from here on.
    pub base_bytes: u64,
    /// Bytes of a chunk: `CHUNK_BYTES`, but for simulations that want to see rare cases often.
    pub chunk_bytes: u64,
}

/// Where a run of a read comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The base, at the same offset.
    Base,
    /// Nowhere: zeros.
    Zero,
    /// Consecutive slots of the cowfile, this one first.
    Slots(Slot),
}

/// A stretch of the device that comes from one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Which bytes of the device.
    pub extent: Extent,
    /// Where they are.
    pub source: Source,
}

/// A write falls into at most a partial chunk, whole chunks, and another partial chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    /// Chunks that are covered from their start to their end, or to the device's.
    pub whole: Range<u64>,
    /// What is left at the edges, each within one chunk.
    pub partial: [Option<Extent>; 2],
}

impl Geometry {
    /// Chunks of the device; the last may be cut short by its end.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.device_bytes.div_ceil(self.chunk_bytes)
    }

    /// The bytes of `chunk` that are on the device.
    #[must_use]
    pub fn chunk_extent(&self, chunk: ChunkIndex) -> Extent {
        let offset = chunk.0 * self.chunk_bytes;
        Extent {
            offset,
            len: self.chunk_bytes.min(self.device_bytes - offset),
        }
    }

    /// The chunks that `extent` touches.
    #[must_use]
    pub fn touched(&self, extent: Extent) -> Range<u64> {
        extent.offset / self.chunk_bytes..extent.end().div_ceil(self.chunk_bytes)
    }

    /// How `extent` falls into chunks.
    #[must_use]
    pub fn pieces(&self, extent: Extent) -> Pieces {
        let first_whole = extent.offset.div_ceil(self.chunk_bytes);
        let end_whole = if extent.end() == self.device_bytes {
            self.chunks()
        } else {
            extent.end() / self.chunk_bytes
        };
        if first_whole >= end_whole {
            // No chunk is covered: one partial piece, or two that share a border.
            let border = (first_whole * self.chunk_bytes).clamp(extent.offset, extent.end());
            return Pieces {
                whole: 0..0,
                partial: [
                    between(extent.offset, border),
                    between(border, extent.end()),
                ],
            };
        }
        let head = between(extent.offset, first_whole * self.chunk_bytes);
        let tail = between(
            (end_whole * self.chunk_bytes).min(extent.end()),
            extent.end(),
        );
        Pieces {
            whole: first_whole..end_whole,
            partial: [head, tail],
        }
    }

    /// Where each byte of `extent` comes from, in ascending order, neighbours joined.
    pub fn runs(&self, extent: Extent, lookup: impl Fn(ChunkIndex) -> Place) -> Vec<Run> {
        let mut runs = Vec::new();
        for chunk in self.touched(extent) {
            let start = extent.offset.max(chunk * self.chunk_bytes);
            let end = extent.end().min((chunk + 1) * self.chunk_bytes);
            match lookup(ChunkIndex(chunk)) {
                Place::Slot(slot) => {
                    join(&mut runs, self.chunk_bytes, start, end, Source::Slots(slot))
                }
                Place::Zero => join(&mut runs, self.chunk_bytes, start, end, Source::Zero),
                Place::Absent => {
                    let base_end = self.base_bytes.clamp(start, end);
                    join(&mut runs, self.chunk_bytes, start, base_end, Source::Base);
                    join(&mut runs, self.chunk_bytes, base_end, end, Source::Zero);
                }
            }
        }
        runs
    }
}

fn between(start: u64, end: u64) -> Option<Extent> {
    (start < end).then(|| Extent {
        offset: start,
        len: end - start,
    })
}

/// Append `start..end` to `runs`, to the last one if it goes on there.
fn join(runs: &mut Vec<Run>, chunk_bytes: u64, start: u64, end: u64, source: Source) {
    let Some(extent) = between(start, end) else {
        return;
    };
    if let Some(last) = runs.last_mut() {
        let goes_on = match (last.source, source) {
            (Source::Slots(first), Source::Slots(next)) => {
                let chunks = start / chunk_bytes - last.extent.offset / chunk_bytes;
                u64::from(first.0) + chunks == u64::from(next.0)
            }
            (one, other) => one == other,
        };
        if goes_on {
            last.extent.len += extent.len;
            return;
        }
    }
    runs.push(Run { extent, source });
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry {
        device_bytes: 5 * 4096 + 512,
        base_bytes: 3 * 4096 + 100,
        chunk_bytes: 4096,
    };

    fn extent(offset: u64, end: u64) -> Extent {
        Extent {
            offset,
            len: end - offset,
        }
    }

    #[test]
    fn a_write_falls_into_whole_chunks_and_edges() {
        for (range, whole, head, tail) in [
            ((0, 4096), 0..1, None, None),
            ((0, 4608), 0..1, None, Some((4096, 4608))),
            ((512, 1024), 0..0, Some((512, 1024)), None),
            ((0, 512), 0..0, None, Some((0, 512))),
            ((3584, 4608), 0..0, Some((3584, 4096)), Some((4096, 4608))),
            (
                (512, 3 * 4096 + 512),
                1..3,
                Some((512, 4096)),
                Some((3 * 4096, 3 * 4096 + 512)),
            ),
            // The device ends within its last chunk, which such a write covers all the same.
            ((5 * 4096, 5 * 4096 + 512), 5..6, None, None),
            ((0, 5 * 4096 + 512), 0..6, None, None),
        ] {
            let pieces = GEOMETRY.pieces(extent(range.0, range.1));
            assert_eq!(pieces.whole, whole, "{range:?}");
            assert_eq!(
                pieces.partial,
                [head, tail].map(|edge| edge.map(|(a, b)| extent(a, b))),
                "{range:?}"
            );
        }
    }

    #[test]
    fn a_read_comes_in_runs_joined_where_they_go_on() {
        let lookup = |chunk: ChunkIndex| match chunk.0 {
            0 => Place::Slot(Slot(7)),
            1 => Place::Slot(Slot(8)),
            2 => Place::Slot(Slot(3)),
            4 => Place::Zero,
            _ => Place::Absent,
        };
        let runs = GEOMETRY.runs(extent(512, GEOMETRY.device_bytes), lookup);
        let expected = [
            (512, 8192, Source::Slots(Slot(7))),
            (8192, 12288, Source::Slots(Slot(3))),
            (12288, 12388, Source::Base),
            (12388, 5 * 4096 + 512, Source::Zero),
        ];
        assert_eq!(
            runs,
            expected.map(|(start, end, source)| Run {
                extent: extent(start, end),
                source
            })
        );
    }
}
