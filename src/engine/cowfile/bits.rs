//! A bit for each slot, in words of 64.

use std::ops::Range;

use crate::engine::format::superblock::Extent;

/// How many words have a bit for each of `slots`.
pub(super) fn words(slots: u32) -> usize {
    slots.div_ceil(64) as usize
}

/// The words that have bits of these slots, and which.
pub(super) fn masks(slots: Range<u32>) -> impl Iterator<Item = (usize, u64)> {
    let words = match slots.is_empty() {
        true => 0..0,
        false => slots.start / 64..slots.end.div_ceil(64),
    };
    words.map(move |word| {
        let from = slots.start.saturating_sub(word * 64);
        let behind = (word * 64 + 63).saturating_sub(slots.end - 1);
        (word as usize, u64::MAX << from & u64::MAX >> behind)
    })
}

/// Whether a slot's bit is set; it is not where there are no such words.
pub(super) fn get(bits: &[u64], slot: u32) -> bool {
    bits.get(slot as usize / 64)
        .is_some_and(|word| word >> (slot % 64) & 1 == 1)
}

/// Set or clear a slot's bit, if there is a word with it.
pub(super) fn set(bits: &mut [u64], slot: u32, used: bool) {
    if let Some(word) = bits.get_mut(slot as usize / 64) {
        let mask = 1 << (slot % 64);
        match used {
            true => *word |= mask,
            false => *word &= !mask,
        }
    }
}

/// A bit for each slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    words: Vec<u64>,
    count: u32,
}

impl Marks {
    /// Those of `extents`, below `end`.
    pub(super) fn of(extents: &[Extent], end: u32) -> Self {
        let mut marks = Self::default();
        for extent in extents {
            for slot in extent.first..extent.first.saturating_add(extent.slots).min(end) {
                marks.mark(slot);
            }
        }
        marks
    }

    /// Whether it was not marked before.
    pub(super) fn mark(&mut self, slot: u32) -> bool {
        let is_new = !self.has(slot);
        let len = self.words.len().max(slot as usize / 64 + 1);
        self.words.resize(len, 0);
        set(&mut self.words, slot, true);
        self.count += u32::from(is_new);
        is_new
    }

    /// Whether it is marked.
    pub(super) fn has(&self, slot: u32) -> bool {
        get(&self.words, slot)
    }

    /// How many are marked.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// How many of them the other has not.
    pub(super) fn missing_in(&self, other: &Self) -> u32 {
        let others = other.words.iter().copied().chain(std::iter::repeat(0));
        let words = self.words.iter().zip(others);
        words
            .map(|(word, other)| (word & !other).count_ones())
            .sum()
    }

    /// Those of the other, too.
    pub(super) fn add(&mut self, other: &Self) {
        self.count += other.missing_in(self);
        let len = self.words.len().max(other.words.len());
        self.words.resize(len, 0);
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// One past the highest.
    pub(super) fn end(&self) -> u32 {
        let last = self.words.iter().rposition(|word| *word != 0);
        last.map_or(0, |at| {
            let top = self
                .words
                .get(at)
                .map_or(0, |word| 64 - word.leading_zeros());
            u32::try_from(at * 64).unwrap_or(u32::MAX) + top
        })
    }
}
