//! All that would be merged, read before anything is written; and what of it is damaged, all in one list.

use super::batch::Batches;
use super::{How, Stopped, Totals, Watch};
use crate::engine::cowfile::recover::{Medium, Recovered};

/// Batches that are scrubbed at once.
const SCRUBBED: u64 = 32;

/// Reads that fail before no more are tried: on a medium that is dying each may take seconds.
const ENOUGH: u32 = 256;

/// Chunks that do not read, or not as they were written, or of which nothing says what they are.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Starts and ends.
    stretches: Vec<(u64, u64)>,
    /// Reads that have failed. What reads, and is wrong, costs no more than what is right.
    failed: u32,
}

impl Lost {
    /// A stretch; next to the last it takes no room, so a session of which nothing is whole takes none.
    pub(super) fn add(&mut self, start: u64, end: u64) {
        match self.stretches.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.stretches.push((start, end)),
        }
    }

    /// So many reads have failed.
    pub(super) fn has_failed(&mut self, reads: u32) {
        self.failed = self.failed.saturating_add(reads);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// How many reads may fail still.
    pub(super) fn left(&self) -> u32 {
        ENOUGH.saturating_sub(self.failed)
    }

    fn result(mut self) -> Result<(), Stopped> {
        if self.is_empty() {
            return Ok(());
        }
        let is_all = self.left() > 0;
        self.stretches.sort_unstable();
        self.stretches.dedup_by(|next, before| {
            let joins = next.0 <= before.1;
            if joins {
                before.1 = before.1.max(next.1);
            }
            joins
        });
        Err(Stopped::Damaged {
            stretches: self.stretches,
            is_all,
        })
    }
}

/// Read all that would be merged, and compare it with its checksums.
///
/// # Errors
/// What is damaged.
pub fn scrub(
    medium: &mut impl Medium,
    found: &Recovered,
    how: How,
    watch: &mut Watch<'_>,
) -> Result<Totals, Stopped> {
    // Nothing of them is kept, so they may be large: each is read in the order of its slots.
    let how = How {
        batch_chunks: how.batch_chunks.saturating_mul(SCRUBBED),
        ..how
    };
    rest(
        &mut Batches::new(found, how),
        medium,
        Lost::default(),
        watch,
    )
}

/// The same of what is left, where something was lost before.
pub(super) fn rest(
    batches: &mut Batches,
    medium: &mut impl Medium,
    mut lost: Lost,
    watch: &mut Watch<'_>,
) -> Result<Totals, Stopped> {
    let mut totals = Totals::default();
    while let Some(batch) = batches.next(medium, &mut lost) {
        batch.check(medium, &mut lost, watch);
        let (data, zero) = batch.counts();
        totals.data_chunks += data;
        totals.zero_chunks += zero;
        watch(zero);
    }
    lost.result().map(|()| totals)
}
