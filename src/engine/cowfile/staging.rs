//! What is acknowledged and not yet durable: in memory that outlives the process.
//!
//! Two logs of records, one for the open epoch and one for the epoch that is being committed, and a
//! pool of chunks that both put things in. The memory is written in such an order that a process may
//! die between any two stores: content first, then its record, then the count that makes it one.
//!
//! ```text
//! word 0…15   magic, version, store (4), incarnation (2), durable seq (2), open log, counts (2),
//!             chunks, generation (2)
//! then        two logs of records: first chunk (2), count, place in the pool or what a run says
//! ```
//!
//! What is not in it: whether a sync was started. A new process believes nothing beyond `durable`,
//! and writes the rest again.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use super::delta::{Change, Delta, Fill};

const MAGIC: u32 = 0x5357_4f43; // "COWS" as little-endian machines show it
const VERSION: u32 = 1;

const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 1;
const AT_STORE: usize = 2;
const AT_INCARNATION: usize = 6;
const AT_DURABLE: usize = 8;
const AT_OPEN: usize = 10;
const AT_COUNTS: usize = 11;
const AT_CHUNKS: usize = 13;
const AT_GENERATION: usize = 14;
const HEAD_WORDS: usize = 16;
const RECORD_WORDS: usize = 4;

/// Chunks that an epoch has at most, however large the pool: an open after a power cut reads all those of
/// the last epoch, and 24 MiB take a slow disk 0.8 s.
const EPOCH_CHUNKS: usize = 6144;

/// Instead of a place in the pool.
const ZERO: u32 = u32::MAX;
const UNMAP: u32 = u32::MAX - 1;

/// What is known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// The open that made it so.
    pub incarnation: u64,
    /// The last commit page that is, with all it names.
    pub seq: u64,
    /// The last superblock that is.
    pub generation: u64,
}

/// Why memory does not hold the staging of this cowfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Not staging memory, or of another version.
    Foreign,
    /// Of another cowfile.
    OtherStore,
    /// A count or place that cannot be.
    Record,
}

/// The open epoch, and the closing one.
#[derive(Debug)]
pub struct Staging<W> {
    words: W,
    /// Chunks of the pool.
    chunks: u32,
    /// Places in the pool that nobody uses.
    free: Vec<u32>,
    open: Delta<u32>,
    closing: Option<Delta<u32>>,
    leaf_shift: u8,
}

impl<W: Deref<Target = [AtomicU32]>> Staging<W> {
    /// Words needed for a pool of `chunks` chunks.
    #[must_use]
    pub fn words_needed(chunks: u32) -> usize {
        HEAD_WORDS + 2 * RECORD_WORDS * records(chunks)
    }

    /// Begin, in `words` that are all zero, with nothing known to be durable.
    pub fn create(words: W, store: [u8; 16], chunks: u32, leaf_shift: u8) -> Self {
        assert!(
            words.len() >= Self::words_needed(chunks),
            "staging memory is as long as it may need"
        );
        let staging = Self {
            words,
            chunks,
            free: (0..chunks).rev().collect(),
            open: Delta::new(leaf_shift),
            closing: None,
            leaf_shift,
        };
        for (at, word) in (AT_STORE..).zip(store_words(store)) {
            staging.store(at, word);
        }
        staging.store(AT_CHUNKS, chunks);
        staging.store(AT_VERSION, VERSION);
        staging.store(AT_MAGIC, MAGIC);
        staging
    }

    /// What another process left: its open epoch, and the one that it was committing.
    ///
    /// # Errors
    /// What is wrong with it; nothing is changed then.
    pub fn open(
        words: W,
        store: [u8; 16],
        chunks: u32,
        leaf_shift: u8,
        device_chunks: u64,
    ) -> Result<Self, Damage> {
        if words.len() < Self::words_needed(chunks) {
            return Err(Damage::Foreign);
        }
        let mut staging = Self {
            words,
            chunks,
            free: Vec::new(),
            open: Delta::new(leaf_shift),
            closing: None,
            leaf_shift,
        };
        if (staging.load(AT_MAGIC), staging.load(AT_VERSION)) != (MAGIC, VERSION) {
            return Err(Damage::Foreign);
        }
        let same_store = (AT_STORE..)
            .zip(store_words(store))
            .all(|(at, word)| staging.load(at) == word);
        if !same_store || staging.load(AT_CHUNKS) != chunks {
            return Err(Damage::OtherStore);
        }
        let newer = staging.load(AT_OPEN).min(1);
        let replay = |log| staging.replay(log, device_chunks);
        let (closing, open) = (replay(1 - newer)?, replay(newer)?);
        let mut used = vec![false; chunks as usize];
        for (_, _, change) in closing.iter().chain(open.iter()) {
            if let Change::Put(place) = change {
                match used.get_mut(place as usize) {
                    Some(used) if !*used => *used = true,
                    _ => return Err(Damage::Record),
                }
            }
        }
        staging.free = (0..chunks)
            .rev()
            .filter(|&place| !used.get(place as usize).copied().unwrap_or(true))
            .collect();
        staging.open = open;
        staging.closing = Some(closing).filter(|closing| !closing.is_empty());
        Ok(staging)
    }

    fn replay(&self, log: u32, device_chunks: u64) -> Result<Delta<u32>, Damage> {
        let mut all = Delta::new(self.leaf_shift);
        let count = self.load(AT_COUNTS + log as usize) as usize;
        if count > records(self.chunks) {
            return Err(Damage::Record);
        }
        for number in 0..count {
            let at = self.record(log, number);
            let first = u64::from(self.load(at)) | u64::from(self.load(at + 1)) << 32;
            let end = first.checked_add(u64::from(self.load(at + 2)));
            // A commit of a chunk that the device does not have could not be read again.
            let end = end
                .filter(|&end| first < end && end <= device_chunks)
                .ok_or(Damage::Record)?;
            match self.load(at + 3) {
                ZERO => all.fill(first..end, Fill::Zero, |_| {}),
                UNMAP => all.fill(first..end, Fill::Unmap, |_| {}),
                place => drop(all.put(first, place)),
            }
        }
        Ok(all)
    }

    /// What is known to be durable, if anything is.
    pub fn durable(&self) -> Option<Durable> {
        let long = |at| u64::from(self.load(at)) | u64::from(self.load(at + 1)) << 32;
        let generation = long(AT_GENERATION);
        (generation > 0).then(|| Durable {
            incarnation: long(AT_INCARNATION),
            seq: long(AT_DURABLE),
            generation,
        })
    }

    /// A superblock is durable.
    pub fn set_generation(&self, generation: u64) {
        self.store_long(AT_GENERATION, generation);
    }

    /// A new incarnation has begun, or an epoch is durable. A process that dies within this call leaves an incarnation that is
    /// no superblock's, which is as good as none.
    pub fn set_durable(&self, durable: Durable) {
        self.store_long(AT_INCARNATION, 0);
        self.store_long(AT_DURABLE, durable.seq);
        self.store_long(AT_GENERATION, durable.generation);
        self.store_long(AT_INCARNATION, durable.incarnation);
    }

    /// What the open epoch says of a chunk.
    pub fn open_change(&self, chunk: u64) -> Option<Change<u32>> {
        self.open.get(chunk)
    }

    /// What the open epoch says of a chunk, or else the one that is being committed.
    pub fn get(&self, chunk: u64) -> Option<Change<u32>> {
        self.open
            .get(chunk)
            .or_else(|| self.closing.as_ref()?.get(chunk))
    }

    /// The open epoch.
    pub fn open_epoch(&self) -> &Delta<u32> {
        &self.open
    }

    /// The epoch that is being committed.
    pub fn closing(&self) -> Option<&Delta<u32>> {
        self.closing.as_ref()
    }

    /// Chunks of the pool that are in use.
    pub fn used(&self) -> u32 {
        self.chunks - u32::try_from(self.free.len()).unwrap_or(u32::MAX)
    }

    /// Whether the open epoch has room for another record.
    pub fn has_room(&self) -> bool {
        (self.load(self.open_count()) as usize) < records(self.chunks)
            && self.open.puts() < EPOCH_CHUNKS
    }

    /// A place in the pool to prepare a chunk in, if there is one.
    pub fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// A place that came to nothing.
    pub fn give_back(&mut self, place: u32) {
        self.free.push(place);
    }

    /// A chunk is in `place` now, complete. There is room for its record.
    pub fn put(&mut self, chunk: u64, place: u32) {
        self.append(chunk, 1, place);
        if let Some(old) = self.open.put(chunk, place) {
            self.free.push(old);
        }
    }

    /// `count` chunks are zeros now. There is room for the record.
    pub fn zero(&mut self, first: u64, count: u32) {
        self.append(first, count, ZERO);
        let free = &mut self.free;
        self.open
            .fill(first..first + u64::from(count), Fill::Zero, |place| {
                free.push(place);
            });
    }

    /// Close the open epoch, to commit it. None is closing.
    pub fn close(&mut self) {
        debug_assert!(self.closing.is_none(), "one epoch at a time is closing");
        let next = 1 - self.load(AT_OPEN).min(1);
        self.store(AT_COUNTS + next as usize, 0);
        self.store(AT_OPEN, next);
        self.closing = Some(std::mem::replace(
            &mut self.open,
            Delta::new(self.leaf_shift),
        ));
    }

    /// The closing epoch is durable, its last page being `durable`.
    pub fn settle(&mut self, durable: Durable) -> Option<Delta<u32>> {
        let settled = self.closing.take()?;
        self.set_durable(durable);
        let log = 1 - self.load(AT_OPEN).min(1);
        self.store(AT_COUNTS + log as usize, 0);
        let places = settled.iter().filter_map(|(_, _, change)| match change {
            Change::Put(place) => Some(place),
            Change::Fill(_) => None,
        });
        let mut places: Vec<u32> = places.collect();
        // The lowest are taken first: a stream of chunks lies in one piece then, and is written so.
        places.sort_unstable_by(|one, other| other.cmp(one));
        self.free.extend(places);
        Some(settled)
    }

    /// Forget everything: a broken rule, for simulations.
    pub(super) fn forget(&mut self) {
        for log in 0..2 {
            self.store(AT_COUNTS + log, 0);
        }
        self.open = Delta::new(self.leaf_shift);
        self.closing = None;
        self.free = (0..self.chunks).rev().collect();
    }

    fn append(&self, first: u64, count: u32, what: u32) {
        let log = self.load(AT_OPEN).min(1);
        let number = self.load(self.open_count());
        debug_assert!(self.has_room(), "a record has room");
        let at = self.record(log, number as usize);
        let words = [low(first), low(first >> 32), count, what];
        for (at, word) in (at..).zip(words) {
            self.store(at, word);
        }
        self.store(self.open_count(), number + 1);
    }

    fn open_count(&self) -> usize {
        AT_COUNTS + self.load(AT_OPEN).min(1) as usize
    }

    fn record(&self, log: u32, number: usize) -> usize {
        HEAD_WORDS + (log as usize * records(self.chunks) + number) * RECORD_WORDS
    }

    fn store_long(&self, at: usize, value: u64) {
        self.store(at, low(value));
        self.store(at + 1, low(value >> 32));
    }

    fn load(&self, at: usize) -> u32 {
        self.words
            .get(at)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&self, at: usize, value: u32) {
        if let Some(word) = self.words.get(at) {
            word.store(value, Ordering::Release);
        }
    }
}

/// Records of each log: a chunk takes one, and some are runs.
fn records(chunks: u32) -> usize {
    chunks as usize + chunks as usize / 2 + 64
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is asked for")]
fn low(value: u64) -> u32 {
    value as u32
}

fn store_words(store: [u8; 16]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(store.chunks_exact(4)) {
        *word = bytes
            .first_chunk()
            .map_or(0, |bytes| u32::from_le_bytes(*bytes));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    type Words = Arc<[AtomicU32]>;

    const DURABLE: Durable = Durable {
        incarnation: 1 << 40,
        seq: 7,
        generation: 3,
    };

    fn memory(chunks: u32) -> Words {
        (0..Staging::<Words>::words_needed(chunks))
            .map(|_| AtomicU32::new(0))
            .collect()
    }

    #[test]
    fn a_new_process_finds_both_epochs_newest_on_top() {
        let words = memory(4);
        let mut staging = Staging::create(words.clone(), [3; 16], 4, 8);
        assert_eq!(staging.durable(), None);
        staging.set_durable(DURABLE);
        let [one, two] = [staging.take().unwrap(), staging.take().unwrap()];
        staging.put(5, one);
        staging.put(6, two);
        staging.close();
        let three = staging.take().unwrap();
        staging.put(5, three);
        staging.zero(6, 10);
        let found = Staging::open(words.clone(), [3; 16], 4, 8, 100).unwrap();
        assert_eq!(found.durable(), Some(DURABLE));
        assert_eq!(found.get(5), Some(Change::Put(three)));
        assert_eq!(found.get(6), Some(Change::Fill(Fill::Zero)));
        assert_eq!((found.get(4), found.used()), (None, 3));
        assert_eq!(found.closing().map(Delta::puts), Some(2));

        // The last run ends at chunk 16.
        for (chunks, fine) in [(16, true), (15, false), (0, false)] {
            let found = Staging::open(words.clone(), [3; 16], 4, 8, chunks);
            assert_eq!(found.is_ok(), fine, "a device of {chunks} chunks");
        }

        let later = Durable { seq: 9, ..DURABLE };
        staging.settle(later).unwrap();
        assert_eq!(staging.used(), 1);
        let found = Staging::open(words.clone(), [3; 16], 4, 8, 100).unwrap();
        assert_eq!((found.durable(), found.used()), (Some(later), 1));
        assert_eq!(
            Staging::open(words, [4; 16], 4, 8, 100).err(),
            Some(Damage::OtherStore)
        );
        assert_eq!(
            Staging::open(memory(4), [3; 16], 4, 8, 100).err(),
            Some(Damage::Foreign)
        );
    }
}
