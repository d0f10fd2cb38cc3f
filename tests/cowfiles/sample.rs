//! A cowfile that a real store wrote: three sessions, the last two left behind in the middle, and what
//! the device read as after each epoch.

use std::collections::BTreeMap;
use std::mem::offset_of;

use cowroot::engine::cowfile::create::Plan;
use cowroot::engine::cowfile::offline::{Content, Offline};
use cowroot::engine::cowfile::recover::{Recovered, recover};
use cowroot::engine::format::commit::CommitHead;
use cowroot::engine::format::page::{Header, Origin};
use cowroot::engine::format::tree::{RawEntry, TreeHead};
use cowroot::engine::format::{Entry, Shape};

use super::image::{Image, SMALL};
use super::machine::{Machine, chunk_of, settings};
use super::opening::Read;

/// What a chunk reads as: this, or a number that `chunk_of` makes bytes of.
pub(crate) const ABSENT: u32 = 0;
pub(crate) const ZERO: u32 = 1;

/// Behind the superblocks: no archive, for what is in it is nobody's business here.
pub(crate) const DESCRIPTION: [u8; 100] = [0x5a; 100];

pub(crate) struct Sample {
    pub(crate) image: Image,
    /// What each chunk read as when an epoch was durable.
    pub(crate) epochs: BTreeMap<u64, Vec<u32>>,
    /// The last of them.
    pub(crate) last: u64,
}

/// A page of the journal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) slot: u32,
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
}

/// Which slots of an image hold what, as the newest superblock tells.
pub(crate) struct Map {
    pub(crate) found: Recovered,
    pub(crate) journal: Vec<Page>,
    /// Tree pages, with the level of each.
    pub(crate) trees: Vec<(u32, u8)>,
    /// Chunks of the device, by slot.
    pub(crate) chunks: BTreeMap<u32, u64>,
}

pub(crate) fn plan(shape: Shape, chunks: u64) -> Plan {
    Plan {
        origin: Origin {
            store: *b"a sample cowfile",
            incarnation: 0x1111,
        },
        shape,
        device_bytes: chunks * shape.chunk_bytes(),
        base_bytes: chunks * shape.chunk_bytes() * 3 / 4,
        max_slots: shape.first_slot() + 400,
        grown_slots: shape.first_slot() + 60,
        file_slots: shape.first_slot() + 100,
        description: DESCRIPTION.to_vec(),
    }
}

struct Writer {
    machine: Machine,
    model: Vec<u32>,
    epochs: BTreeMap<u64, Vec<u32>>,
    random: fastrand::Rng,
    content: u32,
}

impl Writer {
    fn write(&mut self, chunk: usize, count: usize) {
        let first = self.content;
        self.content += u32::try_from(count).unwrap();
        let contents: Vec<u32> = (first..self.content).collect();
        self.machine.write(chunk as u64, &contents).unwrap();
        self.model[chunk..chunk + count].copy_from_slice(&contents);
    }

    fn discard(&mut self, chunk: usize, count: usize) {
        self.machine.discard(chunk as u64, count as u64).unwrap();
        self.model[chunk..chunk + count].fill(ZERO);
    }

    /// A few changes anywhere.
    fn change(&mut self) {
        let chunks = self.model.len();
        for _ in 0..self.random.usize(1..4) {
            let chunk = self.random.usize(0..chunks);
            let count = self.random.usize(1..=4.min(chunks - chunk));
            match self.random.u8(0..4) {
                0 => self.discard(chunk, count),
                _ => self.write(chunk, count),
            }
        }
    }

    fn flush(&mut self) {
        self.machine.flush().unwrap();
        let epoch = self.machine.store.usage().epoch;
        self.epochs.insert(epoch, self.model.clone());
    }

    fn open_again(&mut self, journal_pages: usize, random: u64) {
        let image = self.machine.image.clone();
        self.machine = Machine::open(image, settings(journal_pages, 27, random)).unwrap();
    }
}

/// The same for the same seed.
pub(crate) fn sample(seed: u64) -> Sample {
    let chunks = 64;
    let mut writer = Writer {
        machine: Machine::create(plan(SMALL, chunks), settings(2, 27, seed)),
        model: vec![ABSENT; usize::try_from(chunks).unwrap()],
        epochs: BTreeMap::from([(0, vec![ABSENT; usize::try_from(chunks).unwrap()])]),
        random: fastrand::Rng::with_seed(seed),
        content: 2,
    };
    // Trees: epochs with a checkpoint every few of them, closed in order.
    for _ in 0..20 {
        writer.change();
        writer.flush();
    }
    assert!(writer.machine.close());
    // A journal, left behind; one epoch of several pages in it.
    writer.open_again(1000, seed ^ 1);
    for epoch in 0..3 {
        writer.change();
        if epoch == 1 {
            for chunk in (0..40).step_by(2) {
                writer.write(chunk, 1);
            }
        }
        writer.flush();
    }
    // Another open: what the journal said goes to new pages, durable before the superblocks; then more
    // epochs behind them. Of the last, data is what the checks need.
    writer.open_again(1000, seed ^ 2);
    for epoch in 0..5 {
        if epoch == 2 {
            for chunk in (0..40).step_by(2) {
                writer.write(chunk, 1);
            }
        }
        writer.change();
        let chunk = writer.random.usize(0..64);
        writer.write(chunk, 1);
        writer.flush();
    }
    let last = writer.machine.store.usage().epoch;
    Sample {
        image: writer.machine.image,
        epochs: writer.epochs,
        last,
    }
}

impl Map {
    pub(crate) fn of(image: &Image) -> Self {
        let mut image = image.clone();
        let shape = image.shape;
        let found = recover(&mut image, shape, None).unwrap();
        let journal = found.journal.iter().map(|&slot| Page {
            slot,
            seq: u64::from_le_bytes(image.get(slot, offset_of!(Header, seq))),
            epoch: u64::from_le_bytes(image.get(slot, offset_of!(CommitHead, epoch))),
        });
        let journal = journal.collect();
        let mut trees = Vec::new();
        for (_, layer) in found.superblock.stack() {
            tree_pages(&image, layer.root, &mut trees);
        }
        let mut offline = Offline::new(found.clone());
        let slots = (0..found.superblock.chunks()).filter_map(|chunk| {
            let entry = offline.look_up(&mut image, chunk).unwrap();
            entry.is_slot().then_some((entry.slot, chunk))
        });
        Self {
            journal,
            trees,
            chunks: slots.collect(),
            found,
        }
    }
}

fn tree_pages(image: &Image, entry: Entry, into: &mut Vec<(u32, u8)>) {
    if !entry.is_slot() {
        return;
    }
    let [level] = image.get(entry.slot, offset_of!(TreeHead, level));
    into.push((entry.slot, level));
    for number in 0..1 << image.shape.fanout_shift {
        let at = size_of::<TreeHead>() + number * size_of::<RawEntry>();
        let slot = u32::from_le_bytes(image.get(entry.slot, at));
        if level > 0 {
            tree_pages(image, Entry { slot, crc: 0 }, into);
        }
    }
}

/// Whether what was read is what a chunk should read as.
pub(crate) fn is(read: &(Content, Vec<u8>), expected: u32) -> bool {
    match expected {
        ABSENT => read.0 == Content::Absent,
        ZERO => read.0 == Content::Zero,
        content => read.0 == Content::Read && read.1 == chunk_of(content, read.1.len()),
    }
}

/// The chunks that did not read. All others read as the epoch has them, or it panics.
pub(crate) fn not_read(reads: &[(u64, Read)], epoch: &[u32]) -> Vec<u64> {
    let mut failed = Vec::new();
    assert_eq!(reads.len(), epoch.len());
    for ((chunk, read), &expected) in reads.iter().zip(epoch) {
        match read {
            Ok(read) => assert!(is(read, expected), "chunk {chunk}: wrong bytes"),
            Err(_) => failed.push(*chunk),
        }
    }
    failed
}
