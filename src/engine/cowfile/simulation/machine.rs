//! What a simulated machine has of its own: what goes wrong in it, and the words a store keeps in memory.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::engine::cowfile::staging::Staging;

pub(super) type Words = Arc<[AtomicU32]>;

/// What goes wrong, in how many of 1000 commands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) failing: u16,
    pub(super) short: u16,
    pub(super) dying: u16,
    /// Syncs that do nothing, and say that they did.
    pub(super) lying: u16,
    /// This very command fails, counted from the first.
    pub(super) nth: Option<u64>,
    /// It does not fail, but moves a part of its bytes.
    pub(super) nth_is_short: bool,
    /// Power cuts tried after each command.
    pub(super) cuts: u32,
}

pub(super) fn words(staging_chunks: u32) -> Words {
    (0..Staging::<Words>::words_needed(staging_chunks))
        .map(|_| AtomicU32::new(0))
        .collect()
}

/// The number that fills a sector, if one does.
pub(super) fn content(sector: &[u8]) -> Option<u32> {
    let word: [u8; 4] = *sector.first_chunk()?;
    // Each word is the one before it; compared at once, for this is what a simulation does most.
    (sector[4..] == sector[..sector.len() - 4]).then(|| u32::from_le_bytes(word))
}
