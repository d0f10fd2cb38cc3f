//! Slots that nothing leads to, for what a repair writes.

use super::bits::Marks;
use super::check::Report;
use crate::engine::format::check::is_usable;

/// Those of a cowfile.
#[derive(Debug)]
pub(super) struct Spare<'a> {
    report: &'a Report,
    /// What the superblock says is free.
    said: Marks,
    /// The others below are not known to be.
    unknown_below: u32,
    next: u32,
    end: u32,
    /// From the far end: least likely to hold what does not count and somebody may still want.
    downward: bool,
    /// The highest that was taken.
    pub(super) highest: u32,
}

impl<'a> Spare<'a> {
    pub(super) fn of(report: &'a Report) -> Self {
        let superblock = &report.found.superblock;
        let end = superblock.grown_slots.min(report.census.total);
        // That is so as far as the journal does not name it, and only if it is not wrong already.
        let said = match report.cut.is_some() || !report.beyond.is_empty() {
            true => &[],
            false => superblock.free.as_slice(),
        };
        Self {
            report,
            said: Marks::of(said, end),
            // What cannot be read may name any slot but those that were never in use.
            unknown_below: if report.is_partial {
                superblock.high_water
            } else {
                0
            },
            next: superblock.shape.first_slot(),
            end,
            downward: report.cut.is_some(),
            highest: 0,
        }
    }

    /// The next one, if any is left.
    pub(super) fn take(&mut self) -> Option<u32> {
        loop {
            if self.next >= self.end {
                return None;
            }
            let slot = match self.downward {
                true => {
                    self.end -= 1;
                    self.end
                }
                false => {
                    self.next += 1;
                    self.next - 1
                }
            };
            let is_known = slot >= self.unknown_below || self.said.has(slot);
            let is_named = self.report.marks.has(slot);
            if is_known && !is_named && is_usable(&self.report.found.superblock, slot) {
                self.highest = self.highest.max(slot);
                return Some(slot);
            }
        }
    }
}
