//! The layers' trees: looked through from the top, page by page, as pages are there.

use std::collections::HashMap;

use crate::engine::format::tree::Node;
use crate::engine::format::{Entry, Shape};

/// A tree page that has to be read before a question can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Which page it is.
    pub node: Node,
    /// Where it is.
    pub entry: Entry,
}

#[derive(Debug)]
struct Page {
    crc: u32,
    entries: Box<[Entry]>,
}

/// Tree pages in RAM, by slot; those not asked for lately are forgotten.
#[derive(Debug)]
pub struct Trees {
    shape: Shape,
    height: u8,
    /// Pages asked for since the last turn, and before.
    young: HashMap<u32, Page>,
    old: HashMap<u32, Page>,
    /// `young` holds at most so many.
    limit: usize,
    /// What all layers below the uppermost say together of a lowest page's chunks, by its index. So a look-up costs the
    /// same however many there are. They never change while something stands on them.
    below: HashMap<u64, Box<[Entry]>>,
}

impl Trees {
    /// None read yet. About twice `limit` pages are kept.
    #[must_use]
    pub fn new(shape: Shape, chunks: u64, limit: usize) -> Self {
        Self {
            shape,
            height: shape.height(chunks),
            young: HashMap::new(),
            old: HashMap::new(),
            limit,
            below: HashMap::new(),
        }
    }

    /// Levels of each tree.
    #[must_use]
    pub fn height(&self) -> u8 {
        self.height
    }

    /// Where a chunk is, in the uppermost of `layers` (number and root, from the top; those below the uppermost always
    /// the same) that says so.
    ///
    /// # Errors
    /// The page to read first.
    pub fn look_up(
        &mut self,
        mut layers: impl Iterator<Item = (u8, Entry)>,
        chunk: u64,
    ) -> Result<Entry, Missing> {
        let Some((layer, root)) = layers.next() else {
            return Ok(Entry::ABSENT);
        };
        match self.descend(layer, root, chunk, 0)? {
            Entry::ABSENT => self.look_below(layers, chunk),
            entry => Ok(entry),
        }
    }

    /// The same in those below the uppermost.
    ///
    /// # Errors
    /// The page to read first.
    pub fn look_below(
        &mut self,
        layers: impl Iterator<Item = (u8, Entry)>,
        chunk: u64,
    ) -> Result<Entry, Missing> {
        let index = chunk >> self.shape.fanout_shift;
        let place = usize::try_from(chunk & (self.shape.fanout() - 1)).unwrap_or(usize::MAX);
        let found = |entries: &[Entry]| entries.get(place).copied().unwrap_or(Entry::ABSENT);
        if let Some(entries) = self.below.get(&index) {
            return Ok(found(entries));
        }
        let mut layers = layers.peekable();
        let Some((layer, root)) = layers.next() else {
            return Ok(Entry::ABSENT);
        };
        if layers.peek().is_none() {
            return self.descend(layer, root, chunk, 0);
        }
        let mut entries: Box<[Entry]> = vec![Entry::ABSENT; 1 << self.shape.fanout_shift].into();
        for (layer, root) in std::iter::once((layer, root)).chain(layers) {
            self.lay_under(&mut entries, (layer, root), chunk)?;
        }
        let entry = found(&entries);
        if self.below.len() >= self.limit {
            self.below.clear();
        }
        self.below.insert(index, entries);
        Ok(entry)
    }

    /// The same as `look_up`, layer by layer, and no further down than the chunk is.
    ///
    /// # Errors
    /// The page to read first.
    pub fn look_at_each(
        &mut self,
        layers: impl Iterator<Item = (u8, Entry)>,
        chunk: u64,
    ) -> Result<Entry, Missing> {
        for (layer, root) in layers {
            let entry = self.descend(layer, root, chunk, 0)?;
            if entry != Entry::ABSENT {
                return Ok(entry);
            }
        }
        Ok(Entry::ABSENT)
    }

    /// What a layer says of a lowest page's chunks, where those above it say nothing.
    fn lay_under(
        &mut self,
        entries: &mut [Entry],
        (layer, root): (u8, Entry),
        chunk: u64,
    ) -> Result<(), Missing> {
        let entry = self.descend(layer, root, chunk, 1)?;
        let node = Node {
            layer,
            level: 0,
            index: chunk >> self.shape.fanout_shift,
        };
        let page = match entry.is_slot() {
            true => Some(self.page(entry).ok_or(Missing { node, entry })?),
            false => None,
        };
        for (at, place) in entries.iter_mut().enumerate() {
            if *place == Entry::ABSENT {
                *place = page.map_or(entry, |page| page.get(at).copied().unwrap_or(entry));
            }
        }
        Ok(())
    }

    /// There is another uppermost layer; about twice so many pages are kept from now on.
    pub fn begin_layer(&mut self, limit: usize) {
        self.below.clear();
        self.limit = limit;
    }

    /// The same, and up to which chunk all layers say one thing, unless it is a slot.
    ///
    /// # Errors
    /// The page to read first, and up to which chunk the layers above that say nothing.
    pub fn stretch(
        &mut self,
        layers: impl Iterator<Item = (u8, Entry)>,
        chunk: u64,
    ) -> Result<(Entry, u64), (Missing, u64)> {
        let mut end = u64::MAX;
        for (layer, root) in layers {
            let found = self.follow(layer, root, chunk, 0);
            let (entry, above) = found.map_err(|missing| (missing, end))?;
            let shift = u32::from(self.shape.fanout_shift) * u32::from(above);
            let whole = 1_u64.checked_shl(shift).unwrap_or(u64::MAX);
            end = end.min((chunk / whole).saturating_add(1).saturating_mul(whole));
            if entry != Entry::ABSENT {
                return Ok((entry, end));
            }
        }
        Ok((Entry::ABSENT, end))
    }

    /// What one tree says of a chunk at `level`: 0 is the chunk itself, n the page that is n levels up.
    /// What an entry further up says for all is returned as it is.
    ///
    /// # Errors
    /// The page to read first.
    pub fn descend(
        &mut self,
        layer: u8,
        root: Entry,
        chunk: u64,
        level: u8,
    ) -> Result<Entry, Missing> {
        self.follow(layer, root, chunk, level).map(|found| found.0)
    }

    /// The same, and how many levels up it was said.
    fn follow(
        &mut self,
        layer: u8,
        root: Entry,
        chunk: u64,
        level: u8,
    ) -> Result<(Entry, u8), Missing> {
        let mut entry = root;
        for above in (level..self.height).rev() {
            if !entry.is_slot() {
                return Ok((entry, above + 1));
            }
            let shift = u32::from(self.shape.fanout_shift);
            let node = Node {
                layer,
                level: above,
                index: chunk >> (shift * (u32::from(above) + 1)),
            };
            let number = (chunk >> (shift * u32::from(above))) & (self.shape.fanout() - 1);
            let page = self.page(entry).ok_or(Missing { node, entry })?;
            entry = page
                .get(usize::try_from(number).unwrap_or(usize::MAX))
                .copied()
                .unwrap_or(Entry::ABSENT);
        }
        Ok((entry, level))
    }

    /// Bytes of RAM that the pages take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let pages = self.young.len() + self.old.len() + self.below.len();
        pages as u64 * self.shape.fanout() * size_of::<Entry>() as u64
    }

    /// The entries of a page, if it is in RAM.
    pub fn page(&mut self, entry: Entry) -> Option<&[Entry]> {
        if let Some(page) = self.old.remove(&entry.slot) {
            self.keep(entry.slot, page);
        }
        let page = self.young.get(&entry.slot)?;
        (page.crc == entry.crc).then_some(&*page.entries)
    }

    /// A page was read, or written.
    pub fn insert(&mut self, entry: Entry, entries: Box<[Entry]>) {
        self.old.remove(&entry.slot);
        let crc = entry.crc;
        self.keep(entry.slot, Page { crc, entries });
    }

    fn keep(&mut self, slot: u32, page: Page) {
        if self.young.len() >= self.limit && !self.young.contains_key(&slot) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(slot, page);
    }
}
