//! Recovery: from the bytes of a cowfile to the state of its last durable epoch. Reads only.

use super::delta::{Delta, Fill};
use super::found::{Standing, find_superblock};
use super::mutant::{self, Mutant};
use super::reading::{self, Ahead};
use super::staging::Durable;
use super::trouble::Trouble;
use crate::engine::command::Failure;
use crate::engine::format::check::{self, Access};
use crate::engine::format::commit::{self, Body, Link, Page, Record};
use crate::engine::format::page;
use crate::engine::format::superblock::Superblock;
use crate::engine::format::{Entry, Shape};

/// A cowfile as something that slots are read from, one call at a time: for opens and offline commands.
pub trait Medium {
    /// Slots that exist, as far as the files' sizes say.
    fn slots(&mut self) -> u32;

    /// Read from the start of `slot` on until `into` is full.
    ///
    /// # Errors
    /// The medium cannot be read there, or ends before.
    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure>;

    /// These slots are read soon: the medium may begin with it.
    fn will_read(&mut self, slot: u32, count: u32) {
        let _only_advice = (slot, count);
    }

    /// A superblock was found: it says in which files the slots are.
    ///
    /// # Errors
    /// There is a file that is not this cowfile's. One that is missing is none: `slots` ends before it.
    fn lay_out(&mut self, superblock: &Superblock) -> Result<(), Trouble> {
        let _in_one_file = superblock;
        Ok(())
    }
}

/// A cowfile as it was found.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The one that counts.
    pub superblock: Superblock,
    /// What the journal says.
    pub delta: Delta<Entry>,
    /// The last epoch.
    pub epoch: u64,
    /// Where the journal would go on.
    pub tail: Link,
    /// Slots of the journal's pages.
    pub journal: Vec<u32>,
    /// Whether it may be written.
    pub access: Access,
    /// Whether a torn epoch was dropped behind the last one.
    pub torn: bool,
    /// Slots of that epoch, as far as its pages tell. What is written there before the old journal is history
    /// could make up for what was torn: the epoch would be back.
    pub dropped: Vec<u32>,
    /// What must happen before anything is written.
    pub standing: Standing,
}

impl Recovered {
    /// See what this layer saw, and nothing that was written on it. For reading only.
    pub fn look_at(&mut self, layer: u8) {
        if layer != self.superblock.active_layer {
            self.superblock.active_layer = layer;
            // The journal speaks of the one that takes the writes.
            self.delta = Delta::new(self.superblock.shape.fanout_shift);
        }
    }
}

/// The superblock that counts, and nothing behind it.
///
/// # Errors
/// There is none, or not one for this program.
pub fn newest(
    medium: &mut impl Medium,
    shape: Shape,
    durable: Option<Durable>,
) -> Result<Superblock, Trouble> {
    let durable = durable.map(|durable| durable.generation);
    find_superblock(medium, shape, durable).map(|(superblock, _)| superblock)
}

/// Find the last epoch. `durable` is what a process that died left, if it left anything.
///
/// # Errors
/// What stands in the way; nothing was changed.
pub fn recover(
    medium: &mut impl Medium,
    shape: Shape,
    durable: Option<Durable>,
) -> Result<Recovered, Trouble> {
    let durable = durable.filter(|_| !mutant::is(Mutant::SyncStartedTakenAsDone));
    let (superblock, standing) =
        find_superblock(medium, shape, durable.map(|durable| durable.generation))?;
    let access = check::check(&superblock, shape).map_err(Trouble::Refused)?;
    medium.lay_out(&superblock)?;
    if medium.slots() < superblock.grown_slots {
        return Err(Trouble::Truncated {
            slots: superblock.grown_slots,
        });
    }
    let stop = durable.filter(|durable| durable.incarnation == superblock.origin.incarnation);
    let mut journal = Journal::new(medium, &superblock, stop.map(|durable| durable.seq));
    journal.follow()?;
    let Journal {
        delta,
        epoch,
        tail,
        pages,
        torn,
        dropped,
        ..
    } = journal;
    // Its pages were durable before the superblock was written: a torn epoch is not what this is.
    if tail.seq <= superblock.durable_seq {
        return Err(Trouble::Lost);
    }
    if stop.is_some_and(|durable| tail.seq <= durable.seq) {
        return Err(Trouble::Lost);
    }
    Ok(Recovered {
        superblock,
        delta,
        epoch,
        tail,
        journal: pages,
        access,
        torn,
        dropped,
        standing,
    })
}

/// An epoch whose pages have all been read.
struct Epoch {
    number: u64,
    pages: Vec<Page>,
    /// Its first page's place, and the place behind its last.
    first: Link,
    next: Link,
}

/// The journal on its way from its start to its end.
struct Journal<'a, M> {
    medium: &'a mut M,
    ahead: Ahead,
    superblock: &'a Superblock,
    /// Nothing behind this page counts.
    stop: Option<u64>,
    delta: Delta<Entry>,
    epoch: u64,
    tail: Link,
    pages: Vec<u32>,
    torn: bool,
    dropped: Vec<u32>,
}

impl<'a, M: Medium> Journal<'a, M> {
    fn new(medium: &'a mut M, superblock: &'a Superblock, stop: Option<u64>) -> Self {
        Self {
            medium,
            ahead: Ahead::default(),
            superblock,
            stop,
            delta: Delta::new(superblock.shape.fanout_shift),
            epoch: superblock.epoch,
            tail: superblock.journal,
            pages: Vec::new(),
            torn: false,
            dropped: Vec::new(),
        }
    }

    /// Apply every epoch that counts.
    fn follow(&mut self) -> Result<(), Trouble> {
        let mut last: Option<Epoch> = None;
        let mut place = self.tail;
        loop {
            let number = last.as_ref().map_or(self.epoch, |last| last.number) + 1;
            let (epoch, pages) = self.read_epoch(number, place)?;
            // Any page of an epoch proves the epoch before it.
            if pages > 0
                && let Some(last) = last.take()
            {
                if mutant::is(Mutant::AllEpochsVerified) && !self.is_whole(&last)? {
                    return Ok(());
                }
                self.apply(last)?;
            }
            match epoch {
                Some(epoch) => {
                    place = epoch.next;
                    last = Some(epoch);
                }
                None => {
                    self.torn = pages > 0;
                    break;
                }
            }
        }
        if let Some(last) = last {
            let durable = self.stop.unwrap_or(self.superblock.durable_seq);
            if last.next.seq <= durable.saturating_add(1) || self.is_whole(&last)? {
                self.apply(last)?;
            } else {
                self.torn = true;
                self.drop_pages(&last.pages);
            }
        }
        Ok(())
    }

    /// The epoch that begins at `place`, if all its pages are there; and how many are.
    fn read_epoch(&mut self, number: u64, first: Link) -> Result<(Option<Epoch>, usize), Trouble> {
        let (mut pages, mut place) = (Vec::new(), first);
        let superblock = self.superblock;
        loop {
            let slot = place.slot;
            if self.stop.is_some_and(|stop| place.seq > stop)
                || slot < superblock.shape.first_slot()
            {
                self.drop_pages(&pages);
                return Ok((None, pages.len()));
            }
            // Whoever named this slot had it: it was grown, and synced, before.
            if slot >= self.medium.slots() {
                return Err(Trouble::Truncated { slots: slot + 1 });
            }
            let unreadable = |_| Trouble::Unreadable { slot };
            let bytes = self.ahead.slot(self.medium, superblock.shape, slot);
            let Some((page, crc)) = decode(superblock, bytes.map_err(unreadable)?, place) else {
                self.drop_pages(&pages);
                return Ok((None, pages.len()));
            };
            let fits = page.epoch == number
                && (page.flags & commit::FIRST != 0) == pages.is_empty()
                && check::is_usable(self.superblock, page.next)
                && page.records.iter().all(|record| self.is_possible(record));
            if !fits {
                return Err(Trouble::Damaged { slot });
            }
            place = Link {
                slot: page.next,
                seq: place.seq + 1,
                previous: crc,
            };
            let is_last = page.flags & commit::LAST != 0;
            pages.push(page);
            if is_last {
                let count = pages.len();
                let epoch = Epoch {
                    number,
                    pages,
                    first,
                    next: place,
                };
                return Ok((Some(epoch), count));
            }
        }
    }

    /// These pages do not count, nor what they name. (The first one's slot is the journal's tail, which is never
    /// written to by another incarnation.)
    fn drop_pages(&mut self, pages: &[Page]) {
        let exist = self.medium.slots();
        for page in pages {
            let named = page.records.iter().flat_map(|record| match &record.body {
                Body::Slots(first, crcs) => (*first..).take(crcs.len()),
                Body::Zero(_) | Body::Unmap(_) => (0..).take(0),
            });
            let slots = named.chain([page.next]).filter(|&slot| slot < exist);
            self.dropped.extend(slots);
        }
    }

    /// Whether a record speaks of chunks and slots that exist.
    fn is_possible(&self, record: &Record) -> bool {
        let superblock = self.superblock;
        let chunks = record.first_chunk + record.count() <= superblock.chunks();
        let slots = match &record.body {
            Body::Slots(first, crcs) => check::are_usable(superblock, *first, crcs.len()),
            Body::Zero(_) | Body::Unmap(_) => true,
        };
        chunks && slots && record.layer == superblock.active_layer
    }

    /// Whether every chunk that an epoch names has the checksum it says.
    fn is_whole(&mut self, epoch: &Epoch) -> Result<bool, Trouble> {
        if mutant::is(Mutant::NoDataChecksum) {
            return Ok(true);
        }
        self.reaches(epoch)?;
        let records = epoch.pages.iter().flat_map(|page| &page.records);
        let named = records.flat_map(|record| match &record.body {
            Body::Slots(first, crcs) => (*first..).zip(crcs.as_slice()),
            Body::Zero(_) | Body::Unmap(_) => (0..).zip([].as_slice()),
        });
        let named = named.map(|(slot, crc)| (slot, *crc));
        reading::all_match(self.medium, self.superblock.shape, named)
            .map_err(|slot| Trouble::Unreadable { slot })
    }

    /// What is named exists, or the files do not reach as far as they did.
    fn reaches(&mut self, epoch: &Epoch) -> Result<(), Trouble> {
        let slots = epoch.pages.iter().map(Page::end).max().unwrap_or(0);
        match slots > self.medium.slots() {
            true => Err(Trouble::Truncated { slots }),
            false => Ok(()),
        }
    }

    fn apply(&mut self, epoch: Epoch) -> Result<(), Trouble> {
        self.reaches(&epoch)?;
        let mut slot = epoch.first.slot;
        for page in epoch.pages {
            self.pages.push(slot);
            slot = page.next;
            for record in page.records {
                apply_record(&mut self.delta, &record);
            }
        }
        self.epoch = epoch.number;
        self.tail = epoch.next;
        Ok(())
    }
}

fn decode(superblock: &Superblock, bytes: &[u8], place: Link) -> Option<(Page, u32)> {
    let (mut origin, mut place) = (superblock.origin, place);
    if cfg!(test) {
        let header = page::header(bytes, page::Kind::Commit)?;
        if mutant::is(Mutant::NoIncarnation) {
            origin.incarnation = header.incarnation.get();
            place.previous = header.previous.get();
        }
        if mutant::is(Mutant::SequenceNotChecked) {
            place.seq = header.seq.get();
            place.previous = header.previous.get();
        }
    }
    commit::decode(bytes, origin, place)
}

fn apply_record(delta: &mut Delta<Entry>, record: &Record) {
    let range = record.first_chunk..record.first_chunk + record.count();
    match &record.body {
        Body::Slots(first, crcs) => {
            for ((chunk, slot), &crc) in range.zip(*first..).zip(crcs) {
                delta.put(chunk, Entry { slot, crc });
            }
        }
        Body::Zero(_) if mutant::is(Mutant::DiscardReveals) => {
            delta.fill(range, Fill::Unmap, |_| {});
        }
        Body::Zero(_) => delta.fill(range, Fill::Zero, |_| {}),
        Body::Unmap(_) => delta.fill(range, Fill::Unmap, |_| {}),
    }
}
