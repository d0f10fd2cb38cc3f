//! Slots that nothing leads to, for what a repair writes.

use std::fmt;

use super::check::Report;
use crate::engine::format::check::is_usable;

/// Those of a cowfile.
pub(super) struct Spare<'a> {
    report: &'a Report,
    candidates: Box<dyn Iterator<Item = u32> + 'a>,
    /// The highest that was taken.
    pub(super) highest: u32,
}

impl<'a> Spare<'a> {
    pub(super) fn of(report: &'a Report) -> Self {
        let superblock = &report.found.superblock;
        let end = superblock.grown_slots.min(report.census.total);
        // What cannot be read may name any slot but those that were never in use.
        let known_from = match report.is_partial {
            true => superblock.high_water,
            false => superblock.shape.first_slot(),
        };
        let known = known_from..end;
        // After a cut from the far end: least likely to hold what does not count and somebody may still want.
        let known: Box<dyn Iterator<Item = u32>> = match report.cut.is_some() {
            true => Box::new(known.rev()),
            false => Box::new(known),
        };
        // Then what the superblock says is free, which a journal that was cut may have named; unless that is wrong.
        let said = superblock.free.iter().filter(|_| report.beyond.is_empty());
        let said = said.flat_map(move |extent| {
            let said_end = extent.first.saturating_add(extent.slots);
            extent.first..said_end.min(known_from).min(end)
        });
        Self {
            report,
            candidates: Box::new(known.chain(said)),
            highest: 0,
        }
    }

    /// The next one, if any is left.
    pub(super) fn take(&mut self) -> Option<u32> {
        let report = self.report;
        let is_spare =
            |slot: &u32| is_usable(&report.found.superblock, *slot) && !report.marks.has(*slot);
        let slot = self.candidates.find(is_spare)?;
        self.highest = self.highest.max(slot);
        Some(slot)
    }
}

impl fmt::Debug for Spare<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Spare")
            .field("highest", &self.highest)
            .finish_non_exhaustive()
    }
}
