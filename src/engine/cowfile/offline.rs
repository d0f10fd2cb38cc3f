//! A cowfile as it stands, read without a device: for checks, merges and those who only look.

use std::collections::HashMap;

use super::delta::{Change, Delta, Fill};
use super::recover::{Medium, Recovered};
use super::trees::{Missing, Trees};
use super::trouble::Trouble;
use super::walk::stretch_of;
use crate::engine::format::Entry;
use crate::engine::format::check;
use crate::engine::format::page;
use crate::engine::format::tree;

/// Tree pages kept in RAM.
const CACHED_PAGES: usize = 1024;

/// What a cowfile says of each chunk of its device.
#[derive(Debug)]
pub struct Offline {
    found: Recovered,
    layers: Vec<(u8, Entry)>,
    trees: Trees,
    /// Pages that do not read, or are not what they should be, by their slots: each is tried once.
    bad: HashMap<u32, Trouble>,
}

/// What a cowfile has of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing: the base shows.
    Absent,
    /// Zeros.
    Zero,
    /// It was read into the buffer.
    Read,
}

/// A page that says where chunks are does not read, or is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// One past the last of the chunks that it was asked for.
    pub end: u64,
    /// The medium was read for this, and failed.
    pub has_failed: bool,
}

impl Offline {
    /// Look at what `recover` found.
    #[must_use]
    pub fn new(found: Recovered) -> Self {
        let superblock = &found.superblock;
        let stack = superblock.stack();
        let layers = stack.iter().map(|(number, layer)| (*number, layer.root));
        Self {
            layers: layers.collect(),
            trees: Trees::new(superblock.shape, superblock.chunks(), CACHED_PAGES),
            found,
            bad: HashMap::new(),
        }
    }

    /// Look at one layer of the stack and those below it, as if nothing stood on it.
    #[must_use]
    pub fn from(mut found: Recovered, top: u8) -> Self {
        if top != found.superblock.active_layer {
            // The journal is the active layer's.
            found.delta = Delta::new(found.superblock.shape.fanout_shift);
        }
        let mut offline = Self::new(found);
        let above = offline
            .layers
            .iter()
            .take_while(|(number, _)| *number != top);
        let above = above.count();
        offline.layers.drain(..above);
        offline
    }

    /// Where a chunk is, and up to which one all say the same, unless that is a slot.
    ///
    /// # Errors
    /// Nothing says where these chunks are.
    pub fn stretch(
        &mut self,
        medium: &mut impl Medium,
        chunk: u64,
    ) -> Result<(Entry, u64), Unknown> {
        let tried = self.bad.len();
        let said = self.found.delta.next(chunk);
        if said == Some(chunk) {
            let end = chunk + 1;
            let found = self.look_up(medium, chunk);
            return found
                .map(|entry| (entry, end))
                .map_err(|trouble| self.unknown(&trouble, end, tried));
        }
        let superblock = &self.found.superblock;
        let (shape, chunks) = (superblock.shape, superblock.chunks());
        let end = said.unwrap_or(u64::MAX).min(chunks);
        loop {
            match self.trees.stretch(self.layers.iter().copied(), chunk) {
                Ok((entry, up_to)) => return Ok((entry, up_to.min(end))),
                Err((missing, up_to)) => {
                    let page = stretch_of(missing.node, missing.entry, shape, chunks);
                    let end = page.end.min(up_to).min(end);
                    self.read_page(medium, missing)
                        .map_err(|trouble| self.unknown(&trouble, end, tried))?;
                }
            }
        }
    }

    /// `tried`: how many pages were bad before.
    fn unknown(&self, trouble: &Trouble, end: u64, tried: usize) -> Unknown {
        let is_new = self.bad.len() > tried;
        Unknown {
            end,
            has_failed: is_new && matches!(trouble, Trouble::Unreadable { .. }),
        }
    }

    /// Where a chunk is.
    ///
    /// # Errors
    /// A tree page that does not read, or is not what it should be.
    pub fn look_up(&mut self, medium: &mut impl Medium, chunk: u64) -> Result<Entry, Trouble> {
        let skipped = match self.found.delta.get(chunk) {
            Some(Change::Put(entry)) => return Ok(entry),
            Some(Change::Fill(Fill::Zero)) => return Ok(Entry::ZERO),
            Some(Change::Fill(Fill::Unmap)) => 1,
            None => 0,
        };
        let mut each = false;
        loop {
            let layers = self.layers.iter().copied().skip(skipped);
            let found = match (each, skipped) {
                (true, _) => self.trees.look_at_each(layers, chunk),
                (false, 0) => self.trees.look_up(layers, chunk),
                (false, _) => self.trees.look_below(layers, chunk),
            };
            let missing = match found {
                Ok(entry) => return Ok(entry),
                Err(missing) => missing,
            };
            match self.read_page(medium, missing) {
                Ok(()) => {}
                // Of a layer further down: it may be that this chunk does not need it.
                Err(_) if !each => each = true,
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Read a chunk into `into`, if the cowfile has it.
    ///
    /// # Errors
    /// Something does not read, or not what was written.
    pub fn read(
        &mut self,
        medium: &mut impl Medium,
        chunk: u64,
        into: &mut [u8],
    ) -> Result<Content, Trouble> {
        let slot = match self.look_up(medium, chunk)? {
            Entry::ABSENT => return Ok(Content::Absent),
            Entry::ZERO => return Ok(Content::Zero),
            entry => entry,
        };
        let Entry { slot, crc } = slot;
        medium
            .read(slot, into)
            .map_err(|_| Trouble::Unreadable { slot })?;
        match page::checksum(into) == crc {
            true => Ok(Content::Read),
            false => Err(Trouble::Damaged { slot }),
        }
    }

    /// Read what a tree misses.
    fn read_page(&mut self, medium: &mut impl Medium, missing: Missing) -> Result<(), Trouble> {
        let slot = missing.entry.slot;
        if let Some(trouble) = self.bad.get(&slot) {
            return Err(trouble.clone());
        }
        let entries = entries(&self.found, medium, missing).inspect_err(|trouble| {
            self.bad.insert(slot, trouble.clone());
        })?;
        self.trees.insert(missing.entry, entries);
        Ok(())
    }
}

fn entries(
    found: &Recovered,
    medium: &mut impl Medium,
    Missing { node, entry }: Missing,
) -> Result<Box<[Entry]>, Trouble> {
    let shape = found.superblock.shape;
    let slot = entry.slot;
    let mut bytes = vec![0; shape.chunk_len()];
    medium
        .read(slot, &mut bytes)
        .map_err(|_| Trouble::Unreadable { slot })?;
    let store = found.superblock.origin.store;
    let entries = tree::decode(&bytes, shape, store, (node, slot, entry.crc));
    let possible =
        |entry: &Entry| !entry.is_slot() || check::is_usable(&found.superblock, entry.slot);
    entries
        .filter(|entries| entries.iter().all(possible))
        .ok_or(Trouble::Damaged { slot })
}
