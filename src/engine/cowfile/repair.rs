//! A damaged cowfile made whole: planned first, so that what is replaced can be saved; then written.
//!
//! It writes as the engine does: to free slots, a sync, then the superblocks, one after the other. So what a
//! crash leaves opens as before, or repaired. Headers of sibling files alone are written in their places.

use super::check::{Report, Source, Stretch};
use super::create::{MediumMut, erase_superblock};
use super::delta::{Change, Delta, Fill};
use super::found::Standing;
use super::layers::{NotDone, flip};
use super::pages::Packer;
use super::recover::Medium;
use super::spare::Spare;
use super::walk::{entries_of, stretch_of};
use crate::engine::command::Failure;
use crate::engine::format::check::Access;
use crate::engine::format::commit::{self, Link};
use crate::engine::format::page::{self, Origin};
use crate::engine::format::superblock::{self, Superblock};
use crate::engine::format::tree::{self, Node};
use crate::engine::format::{Entry, Shape};

/// How to repair.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// Let what is below show where something is lost, and go back behind epochs that are; else such chunks go on
    /// being errors, and such a cowfile is left as it is.
    pub drop_damaged: bool,
    /// A number that stands for this repair: a new one.
    pub incarnation: u64,
    /// The new description.
    pub description: Vec<u8>,
}

/// Why a cowfile is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRepaired {
    /// It has features that this program must not write.
    ReadOnly,
    /// Epochs that were durable would be lost, and nobody said that they may be.
    WouldLose,
    /// There are too few free slots for what has to be written.
    NoRoom,
    /// What was read before does not read now.
    Unreadable,
    /// Nothing would open it afterwards: a mistake of ours.
    Implausible,
    /// The medium's; it is as it was, or repaired.
    Failed(Failure),
}

/// What is to be written.
#[derive(Debug, Clone)]
pub struct Repair {
    writes: Vec<(u32, Vec<u8>)>,
    superblock: Superblock,
    standing: Standing,
}

/// Work out what it takes. Nothing is written yet.
///
/// # Errors
/// Why it cannot be.
pub fn plan(
    medium: &mut impl Medium,
    report: &Report,
    wishes: Wishes,
) -> Result<Repair, NotRepaired> {
    let found = &report.found;
    if found.access != Access::ReadWrite {
        return Err(NotRepaired::ReadOnly);
    }
    if report.cut.as_ref().is_some_and(|cut| cut.acknowledged) && !wishes.drop_damaged {
        return Err(NotRepaired::WouldLose);
    }
    let origin = Origin {
        incarnation: wishes.incarnation,
        ..found.superblock.origin
    };
    let mut planner = Planner {
        medium,
        report,
        shape: found.superblock.shape,
        origin,
        drops: wishes.drop_damaged,
        free: Spare::of(report),
        writes: Vec::new(),
    };
    let mut superblock = found.superblock.clone();
    for (number, layer) in (0..).zip(&mut superblock.layers) {
        if let Some(layer) = layer {
            layer.root = planner.tree(number, layer.root)?;
        }
    }
    let delta = planner.delta()?;
    planner.journal(&delta, &mut superblock)?;
    planner.headers();
    let Planner { writes, free, .. } = planner;
    superblock.origin = origin;
    superblock.description = wishes.description;
    let end = report.marks.end().max(free.highest + 1);
    superblock.high_water = superblock.high_water.max(end);
    superblock.free = Vec::new();
    superblock.grown_slots = superblock.grown_slots.max(report.marks.end());
    Ok(Repair {
        writes,
        superblock,
        standing: found.standing,
    })
}

impl Repair {
    /// What will be overwritten: each first slot, and how many.
    #[must_use]
    pub fn replaces(&self) -> Vec<(u32, u32)> {
        let shape = self.superblock.shape;
        let slots = |len: usize| u32::try_from(len.div_ceil(shape.chunk_len())).unwrap_or(u32::MAX);
        let superblock = slots(self.superblock.len());
        let places = superblock::slots(shape).map(|slot| (slot, superblock));
        let writes = self
            .writes
            .iter()
            .map(|(slot, bytes)| (*slot, slots(bytes.len())));
        places.into_iter().chain(writes).collect()
    }

    /// Write it.
    ///
    /// # Errors
    /// The medium's.
    pub fn run(self, medium: &mut impl MediumMut) -> Result<(), NotRepaired> {
        // A copy that did not read may read again, and lead to slots that are taken for free here.
        if self.standing == Standing::Torn {
            let other = Superblock {
                generation: self.superblock.generation + 1,
                ..self.superblock.clone()
            };
            let erased = medium
                .sync()
                .and_then(|()| erase_superblock(medium, &other));
            erased.map_err(NotRepaired::Failed)?;
        }
        for (slot, bytes) in &self.writes {
            medium.write(*slot, bytes).map_err(NotRepaired::Failed)?;
        }
        match flip(medium, self.superblock, self.standing) {
            Ok(_) => Ok(()),
            Err(NotDone::Failed(failure)) => Err(NotRepaired::Failed(failure)),
            Err(NotDone::Implausible) => Err(NotRepaired::Implausible),
            Err(_) => Err(NotRepaired::ReadOnly),
        }
    }
}

struct Planner<'a, M> {
    medium: &'a mut M,
    report: &'a Report,
    shape: Shape,
    origin: Origin,
    drops: bool,
    free: Spare<'a>,
    writes: Vec<(u32, Vec<u8>)>,
}

impl<M: Medium> Planner<'_, M> {
    fn slot(&mut self) -> Result<u32, NotRepaired> {
        self.free.take().ok_or(NotRepaired::NoRoom)
    }

    fn read(&mut self, slot: u32) -> Result<Vec<u8>, NotRepaired> {
        let mut bytes = vec![0; self.shape.chunk_len()];
        let read = self.medium.read(slot, &mut bytes);
        read.map(|()| bytes).map_err(|_| NotRepaired::Unreadable)
    }

    fn is_lost(&self, layer: u8, source: Source, start: u64, end: u64) -> bool {
        self.drops && touches(&self.report.lost, layer, source, start, end)
    }

    /// A layer's tree without what is lost. Its new root.
    fn tree(&mut self, layer: u8, root: Entry) -> Result<Entry, NotRepaired> {
        let level = self.shape.height(self.report.found.superblock.chunks()) - 1;
        match root.is_slot() {
            true => self.page(
                Node {
                    layer,
                    level,
                    index: 0,
                },
                root,
            ),
            false => Ok(root),
        }
    }

    fn page(&mut self, node: Node, entry: Entry) -> Result<Entry, NotRepaired> {
        let found = &self.report.found;
        let Stretch { start, end, .. } =
            stretch_of(node, entry, self.shape, found.superblock.chunks());
        let covers = |lost: &&Stretch| {
            (lost.layer, lost.source) == (node.layer, Source::Page)
                && lost.start <= start
                && end <= lost.end
        };
        if self.report.lost.iter().any(|lost| covers(&lost)) {
            // An error for all below it, unless that may be dropped.
            return Ok(if self.drops { Entry::ABSENT } else { entry });
        }
        let mut concerned = false;
        for source in [Source::Tree, Source::Page] {
            concerned |= self.is_lost(node.layer, source, start, end)
                || touches(&self.report.twice, node.layer, source, start, end);
        }
        if !concerned {
            return Ok(entry);
        }
        let bytes = self.read(entry.slot)?;
        let entries = entries_of(found, &bytes, node, entry).ok_or(NotRepaired::Unreadable)?;
        let mut changed = entries.clone();
        for (number, child) in (0..)
            .zip(changed.iter_mut())
            .filter(|(_, child)| child.is_slot())
        {
            *child = match node.level {
                0 => self.chunk(node.layer, node.first_chunk(self.shape) + number, *child)?,
                _ => self.page(node.child(number, self.shape), *child)?,
            };
        }
        let is_twice = touches(&self.report.twice, node.layer, Source::Page, start, end);
        if changed == entries && !is_twice {
            return Ok(entry);
        }
        let slot = self.slot()?;
        let mut bytes = vec![0; self.shape.chunk_len()];
        let place = (node, found.superblock.epoch, slot);
        let crc = tree::encode(&mut bytes, self.shape, self.origin, place, &changed);
        self.writes.push((slot, bytes));
        Ok(Entry { slot, crc })
    }

    /// What a tree is to say of a chunk.
    fn chunk(&mut self, layer: u8, chunk: u64, entry: Entry) -> Result<Entry, NotRepaired> {
        let found = &self.report.found;
        if self.is_lost(layer, Source::Tree, chunk, chunk + 1) {
            return Ok(Entry::ABSENT);
        }
        if !touches(&self.report.twice, layer, Source::Tree, chunk, chunk + 1) {
            return Ok(entry);
        }
        // What the journal has anew nobody reads here.
        match layer == found.superblock.active_layer && found.delta.get(chunk).is_some() {
            true => Ok(Entry::ABSENT),
            false => self.moved(entry),
        }
    }

    /// A copy of a chunk in a slot of its own; or, where it is not whole, what it was.
    fn moved(&mut self, entry: Entry) -> Result<Entry, NotRepaired> {
        let Some(bytes) = self
            .read(entry.slot)
            .ok()
            .filter(|it| page::checksum(it) == entry.crc)
        else {
            return Ok(entry);
        };
        let slot = self.slot()?;
        self.writes.push((slot, bytes));
        Ok(Entry { slot, ..entry })
    }

    /// What the journal is to say.
    fn delta(&mut self) -> Result<Delta<Entry>, NotRepaired> {
        let (report, mut delta) = (self.report, self.report.found.delta.clone());
        let in_journal = |stretch: &&Stretch| stretch.source == Source::Journal;
        for lost in report.lost.iter().filter(|_| self.drops).filter(in_journal) {
            delta.fill(lost.chunks(), Fill::Unmap, |_| {});
        }
        for chunk in report
            .twice
            .iter()
            .filter(in_journal)
            .flat_map(Stretch::chunks)
        {
            if let Some(Change::Put(entry)) = delta.get(chunk) {
                delta.put(chunk, self.moved(entry)?);
            }
        }
        Ok(delta)
    }

    /// A new journal, in a new incarnation: nothing behind the old one's end can come back.
    fn journal(
        &mut self,
        delta: &Delta<Entry>,
        superblock: &mut Superblock,
    ) -> Result<(), NotRepaired> {
        let (free, mut taken) = (&mut self.free, Vec::new());
        let mut packer = Packer {
            room: commit::room(self.shape.chunk_len()),
            epoch: self.report.found.epoch,
            layer: superblock.active_layer,
            pages: Default::default(),
            left: 0,
            take: || free.take(),
            taken: &mut taken,
        };
        let mut pack = || {
            if !delta.is_empty() {
                let slot = packer.slot()?;
                packer.begin(slot);
            }
            delta
                .iter()
                .try_for_each(|(chunk, count, change)| match change {
                    Change::Fill(fill) => packer.fill(chunk, count, fill),
                    Change::Put(entry) => packer.put(chunk, entry),
                })
        };
        let packed = pack().and_then(|()| packer.finish());
        let pages = packed.ok_or(NotRepaired::NoRoom)?;
        let first = taken.first().copied().ok_or(NotRepaired::NoRoom)?;
        let mut link = Link {
            slot: first,
            seq: self.report.found.tail.seq + 1,
            previous: 0,
        };
        superblock.journal = link;
        superblock.clean = pages.is_empty();
        superblock.epoch = self
            .report
            .found
            .epoch
            .saturating_sub(u64::from(!pages.is_empty()));
        for (slot, content) in pages {
            let mut bytes = vec![0; self.shape.chunk_len()];
            let previous = commit::encode(&mut bytes, self.origin, link, &content);
            self.writes.push((slot, bytes));
            link = Link {
                slot: content.next,
                seq: link.seq + 1,
                previous,
            };
        }
        superblock.durable_seq = link.seq - 1;
        Ok(())
    }

    fn headers(&mut self) {
        let superblock = &self.report.found.superblock;
        for &slot in &self.report.headers {
            let number = slot / superblock.file_slots.max(1);
            let bytes = page::sibling(superblock.origin, number, slot, self.shape.chunk_len());
            self.writes.push((slot, bytes));
        }
    }
}

/// Whether any of these chunks is in the list.
fn touches(list: &[Stretch], layer: u8, source: Source, start: u64, end: u64) -> bool {
    let key = |stretch: &Stretch| (stretch.layer, stretch.source, stretch.end);
    let at = list.partition_point(|stretch| key(stretch) <= (layer, source, start));
    list.get(at)
        .is_some_and(|it| (it.layer, it.source) == (layer, source) && it.start < end)
}
