//! Which tree pages are read at once, and into which buffers.

use super::trees::Missing;

/// Page buffers that jobs leave to those who read.
pub(super) const FOR_READERS: usize = 2;
/// Slots of the longest read of tree pages: those between that nobody wants cost less than another read.
const RUN: u32 = 16;

/// A buffer for a single page: the low ones, so that the high ones stay in a row.
pub(super) fn lowest(buffers: &mut Vec<u32>) -> Option<u32> {
    let (at, _) = buffers
        .iter()
        .enumerate()
        .min_by_key(|(_, buffer)| **buffer)?;
    Some(buffers.swap_remove(at))
}

/// How many buffers, for a run of pages, are free in a row; these are the last ones in the list then. Some
/// are left to those who read.
pub(super) fn buffers_in_a_row(buffers: &mut [u32]) -> u32 {
    buffers.sort_unstable();
    let spare = buffers.len().saturating_sub(FOR_READERS);
    let downward = (0..).zip(buffers.iter().rev()).take(spare);
    let last = buffers.last().copied().unwrap_or(0);
    let in_a_row = downward.take_while(|(count, buffer)| *buffer + count == last);
    in_a_row.fold(0, |count, _| count + 1).min(RUN)
}

/// The next pages to be read at once: the last ones of the list that are within `most` slots of a file.
pub(super) fn next_run(todo: &mut Vec<Missing>, most: u32, file_slots: u32) -> Vec<Missing> {
    let mut run = Vec::new();
    let mut reach = 0..u32::MAX;
    while most > 0
        && let Some(missing) = todo.pop_if(|missing| reach.contains(&missing.entry.slot))
    {
        let slot = missing.entry.slot;
        if run.is_empty() {
            let file_end = (slot / file_slots)
                .saturating_add(1)
                .saturating_mul(file_slots);
            reach.end = slot.saturating_add(most).min(file_end);
        }
        reach.start = slot + 1;
        run.push(missing);
    }
    run
}

/// The lowest slots last: runs are taken from the end.
pub(super) fn sort_for_runs(pages: &mut [Missing]) {
    pages.sort_unstable_by_key(|missing| std::cmp::Reverse(missing.entry.slot));
}

/// Slots from the first to the last page of a run.
pub(super) fn run_slots(pages: &[Missing]) -> u32 {
    match (pages.first(), pages.last()) {
        (Some(first), Some(last)) => last.entry.slot - first.entry.slot + 1,
        _ => 0,
    }
}
