//! The journal: commits, and a new journal for a new incarnation.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::delta::{Change, Delta, Fill};
use super::flip::Reason;
use super::mutant::{self, Mutant};
use super::pending::{Io, Job, Purpose};
use super::staging::Durable;
use super::{Cowfile, Durability};
use crate::engine::command::{Action, Buffers, Failure, Outbox, RequestId, Span};
use crate::engine::format::commit::{self, Body, Link, Page, Record};
use crate::engine::format::page::{self, Origin};
use crate::engine::format::{Entry, Shape};

/// How often jobs begin again before the store gives up.
const ATTEMPTS: u32 = 3;

/// Pages of the journal on their way to the medium.
#[derive(Debug)]
struct Pages {
    origin: Origin,
    /// Slot and content, in order.
    todo: VecDeque<(u32, Page)>,
    /// What the next page must say of its place.
    link: Link,
    /// Where the pages are, by sequence number.
    places: Vec<(u64, u32)>,
    /// Commands under way.
    outstanding: usize,
    syncing: bool,
    synced: bool,
}

/// An epoch on its way to the medium.
#[derive(Debug)]
pub(super) struct Commit {
    pages: Pages,
    /// Where its chunks go.
    named: Delta<Entry>,
    /// All slots it took, its first page's not among them.
    taken: Vec<u32>,
}

/// A new journal on its way to the medium, in a new incarnation.
#[derive(Debug)]
pub(super) struct Restart {
    pages: Pages,
    taken: Vec<u32>,
    /// Its superblocks are on their way.
    flipping: bool,
}

/// Puts records into pages, as many as fit, and takes a slot for each further page.
struct Packer<'a, T> {
    room: usize,
    epoch: u64,
    layer: u8,
    pages: VecDeque<(u32, Page)>,
    left: usize,
    take: T,
    taken: &'a mut Vec<u32>,
}

impl<T: FnMut() -> Option<u32>> Packer<'_, T> {
    fn slot(&mut self) -> Option<u32> {
        let slot = (self.take)()?;
        self.taken.push(slot);
        Some(slot)
    }

    fn begin(&mut self, slot: u32) {
        let page = Page {
            epoch: self.epoch,
            ..Page::default()
        };
        self.pages.push_back((slot, page));
        self.left = self.room;
    }

    /// Make sure that `len` bytes fit. `None`: no slot for a page.
    fn fit(&mut self, len: usize) -> Option<()> {
        if self.left < len {
            let slot = self.slot()?;
            self.begin(slot);
        }
        self.left -= len;
        Some(())
    }

    fn records(&mut self) -> Option<&mut Vec<Record>> {
        self.pages.back_mut().map(|(_, page)| &mut page.records)
    }

    fn put(&mut self, chunk: u64, entry: Entry) -> Option<()> {
        let fits = self.left >= size_of::<u32>();
        if let Some(Record {
            first_chunk,
            body: Body::Slots(first, crcs),
            ..
        }) = self.records()?.last_mut()
            && fits
            && *first_chunk + crcs.len() as u64 == chunk
            && u64::from(*first) + crcs.len() as u64 == u64::from(entry.slot)
        {
            crcs.push(entry.crc);
            self.left -= size_of::<u32>();
            return Some(());
        }
        self.push(chunk, Body::Slots(entry.slot, vec![entry.crc]))
    }

    fn fill(&mut self, mut first: u64, mut count: u64, fill: Fill) -> Option<()> {
        while count > 0 {
            let part = u32::try_from(count).unwrap_or(u32::MAX);
            let body = match fill {
                Fill::Zero => Body::Zero(part),
                Fill::Unmap => Body::Unmap(part),
            };
            self.push(first, body)?;
            (first, count) = (first + u64::from(part), count - u64::from(part));
        }
        Some(())
    }

    fn push(&mut self, first_chunk: u64, body: Body) -> Option<()> {
        let record = Record {
            layer: self.layer,
            first_chunk,
            body,
        };
        self.fit(record.len())?;
        self.records()?.push(record);
        Some(())
    }

    /// Reserve a slot for what comes after, and tie the pages together.
    fn finish(mut self) -> Option<VecDeque<(u32, Page)>> {
        let reserved = self.slot()?;
        let slots: Vec<u32> = self.pages.iter().map(|(slot, _)| *slot).collect();
        let nexts = slots.iter().skip(1).copied().chain([reserved]);
        for ((_, page), next) in self.pages.iter_mut().zip(nexts) {
            page.next = next;
        }
        if let Some((_, first)) = self.pages.front_mut() {
            first.flags |= commit::FIRST;
        }
        if let Some((_, last)) = self.pages.back_mut() {
            last.flags |= commit::LAST;
        }
        Some(self.pages)
    }
}

/// No more pages than this are needed for so many chunks and runs, in the worst case.
pub(super) fn pages_for(shape: Shape, puts: usize, fills: usize) -> usize {
    let room = commit::room(shape.chunk_len());
    let record = size_of::<commit::RawRecord>();
    let bytes = puts * (record + size_of::<u32>()) + fills * record;
    // The end of a page may stay empty.
    bytes.div_ceil(room - record - size_of::<u32>()) + 1
}

impl Pages {
    fn new(origin: Origin, link: Link, todo: VecDeque<(u32, Page)>) -> Self {
        let places = (link.seq..)
            .zip(todo.iter().map(|(slot, _)| *slot))
            .collect();
        Self {
            origin,
            todo,
            link,
            places,
            outstanding: 0,
            syncing: false,
            synced: false,
        }
    }

    /// The next page's action: from `span`, where it is put together.
    fn next(&mut self, shape: Shape, span: Span, buffers: &mut impl Buffers) -> Option<Action> {
        let (slot, page) = self.todo.pop_front()?;
        debug_assert_eq!(slot, self.link.slot, "pages are linked");
        let crc = commit::encode(buffers.bytes_mut(span), self.origin, self.link, &page);
        self.link = Link {
            slot: page.next,
            seq: self.link.seq + 1,
            previous: crc,
        };
        let offset = shape.offset_bytes(slot);
        Some(Action::WriteCow { offset, from: span })
    }

    fn is_written(&self) -> bool {
        self.todo.is_empty() && self.outstanding == 0
    }

    fn over(&mut self) {
        self.outstanding -= 1;
        if self.syncing {
            self.synced = true;
        }
    }
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// Whether anybody wants the open epoch to end.
    fn wants_commit(&self) -> bool {
        let open = self.staging.open_epoch();
        let waited_for =
            self.flushes.iter().any(|(_, epoch)| *epoch > self.epoch) || self.wanted > self.epoch;
        let filling = self.staging.used() >= self.settings.staging_chunks.div_ceil(4);
        let cramped = !self.staging.has_room() || !self.starved.is_empty();
        !open.is_empty() && (waited_for || filling || cramped)
    }

    /// Whether a new journal has to be begun before anything can be committed.
    fn wants_restart(&self) -> bool {
        let waited_for = self.flushes.iter().any(|(_, epoch)| *epoch > self.epoch)
            || self.flushes.iter().any(|(_, epoch)| *epoch == 0);
        let waited_for = waited_for
            || self.wants_commit()
            || self.staging.closing().is_some()
            || (!self.starved.is_empty() && self.has_garbage());
        let closing_down = self.closing_down && !self.staging.open_epoch().is_empty();
        self.tail.is_none() && (waited_for || closing_down || self.attempts > 0)
    }

    pub(super) fn step_commit(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        if self.trouble || self.broken.is_some() {
            return false;
        }
        if self.commit.is_none() {
            let due = self.staging.closing().is_some() || self.wants_commit();
            return due && self.tail.is_some() && self.begin_commit(io);
        }
        let moved = self.write_pages(Job::Commit, io);
        let Some(commit) = &mut self.commit else {
            return moved;
        };
        if commit.pages.synced {
            self.commit_is_durable();
            return true;
        }
        if !commit.pages.is_written() || commit.pages.syncing {
            return moved;
        }
        commit.pages.syncing = true;
        if mutant::is(Mutant::NoSync) {
            commit.pages.synced = true;
            return true;
        }
        if mutant::is(Mutant::NextEpochBeforeSync) {
            let late = std::mem::take(&mut self.flushes);
            let late = late.into_iter().map(|(id, _)| id).collect();
            self.commit_is_durable();
            self.command(Action::SyncCow, Purpose::LateSync(late), None, io.out);
            return true;
        }
        commit.pages.outstanding += 1;
        let purpose = Purpose::Job {
            job: Job::Commit,
            buffer: None,
        };
        self.command(Action::SyncCow, purpose, None, io.out);
        true
    }

    /// Close the open epoch, unless one is closed already, and send its chunks to fresh slots.
    fn begin_commit(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        let Some(tail) = self.tail else {
            return false;
        };
        let shape = self.shape;
        let epoch = self.staging.closing().unwrap_or(self.staging.open_epoch());
        let slots = epoch.puts() + pages_for(shape, epoch.puts(), epoch.fills()) + 1;
        if (self.space.free() as usize) < slots {
            return self.out_of_slots();
        }
        if self.staging.closing().is_none() {
            self.staging.close();
        }
        let Some(closing) = self.staging.closing() else {
            return false;
        };
        let changes: Vec<(u64, u64, Change<u32>)> = closing.iter().collect();
        let (mut taken, mut named) = (Vec::new(), Delta::new(shape.fanout_shift));
        let mut writes = Vec::new();
        let space = &mut self.space;
        let first = self.settings.staging_chunks;
        let mut packer = Packer {
            room: commit::room(shape.chunk_len()),
            epoch: self.epoch + 1,
            layer: self.superblock.active_layer,
            pages: VecDeque::new(),
            left: 0,
            take: || space.take(),
            taken: &mut taken,
        };
        packer.begin(tail.slot);
        let packed = changes
            .iter()
            .try_for_each(|&(chunk, count, change)| match change {
                Change::Fill(fill) => {
                    named.fill(chunk..chunk + count, fill, |_| {});
                    packer.fill(chunk, count, fill)
                }
                Change::Put(place) => {
                    debug_assert!(place < first, "a chunk is in the pool");
                    let span = Span {
                        buffer: crate::engine::command::Buffer::Staging,
                        start: (place as usize) << shape.chunk_shift,
                        len: shape.chunk_len(),
                    };
                    let slot = packer.slot()?;
                    let crc = page::checksum(io.buffers.bytes(span));
                    named.put(chunk, Entry { slot, crc });
                    writes.push((slot, span));
                    packer.put(chunk, Entry { slot, crc })
                }
            });
        let Some(todo) = packed.and_then(|()| packer.finish()) else {
            debug_assert!(false, "slots were counted before");
            taken.into_iter().for_each(|slot| self.space.release(slot));
            self.broken = Some(Failure::NoSpace);
            return true;
        };
        let mut pages = Pages::new(self.superblock.origin, tail, todo);
        pages.outstanding = writes.len();
        self.commit = Some(Commit {
            pages,
            named,
            taken,
        });
        if mutant::is(Mutant::SlotReusedEarly) {
            self.release_renamed();
        }
        for (slot, from) in writes {
            let offset = shape.offset_bytes(slot);
            let purpose = Purpose::Job {
                job: Job::Commit,
                buffer: None,
            };
            self.command(Action::WriteCow { offset, from }, purpose, None, io.out);
        }
        true
    }

    /// Slots are short for now, or for good.
    fn out_of_slots(&mut self) -> bool {
        let may_come = self.scan.is_some()
            || self.growing
            || self.checkpoint.is_some()
            || self.space.grown() < self.max_slots;
        if !may_come {
            self.broken = Some(Failure::NoSpace);
        }
        !may_come
    }

    fn release_renamed(&mut self) {
        let Some(commit) = &self.commit else { return };
        for (chunk, _, _) in commit.named.iter() {
            if let Some(Change::Put(old)) = self.delta.get(chunk) {
                self.space.release(old.slot);
            }
        }
    }

    /// The epoch that was being committed is durable.
    fn commit_is_durable(&mut self) {
        let Some(commit) = self.commit.take() else {
            return;
        };
        self.attempts = 0;
        self.epoch += 1;
        self.tail = Some(commit.pages.link);
        // Its first page's slot was the tail's, and is listed already.
        self.journal
            .pop_back_if(|(seq, _)| Some(*seq) == commit.pages.places.first().map(|p| p.0));
        self.journal.extend(&commit.pages.places);
        self.journal
            .push_back((commit.pages.link.seq, commit.pages.link.slot));
        self.staging.settle(Durable {
            incarnation: self.superblock.origin.incarnation,
            seq: commit.pages.link.seq - 1,
            generation: self.superblock.generation,
        });
        let space = &mut self.space;
        self.delta.absorb(&commit.named, |old| {
            if !mutant::is(Mutant::SlotReusedEarly) {
                space.release(old.slot);
            }
        });
    }

    /// Tell flushes that their epoch is durable, or never will be.
    pub(super) fn step_flushes(&mut self, out: &mut Outbox) -> bool {
        let (epoch, begun, broken) = (self.epoch, self.tail.is_some(), self.broken);
        let over: Vec<RequestId> = self
            .flushes
            .extract_if(.., |(_, waits_for)| {
                broken.is_some() || (*waits_for <= epoch && begun)
            })
            .map(|(id, _)| id)
            .collect();
        for &id in &over {
            self.finish(id, broken.map_or(Ok(()), Err), out);
        }
        !over.is_empty()
    }

    pub(super) fn step_restart(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        if self.trouble || self.broken.is_some() {
            return false;
        }
        if self.restart.is_none() {
            return self.flip.is_none() && self.wants_restart() && self.begin_restart();
        }
        let moved = self.write_pages(Job::Restart, io);
        let Some(restart) = &mut self.restart else {
            return moved;
        };
        if restart.flipping || !restart.pages.is_written() {
            return moved;
        }
        if restart.pages.synced {
            restart.flipping = true;
            let mut superblock = self.superblock.clone();
            superblock.origin = restart.pages.origin;
            superblock.clean = false;
            superblock.journal = Link {
                slot: restart
                    .pages
                    .places
                    .first()
                    .map_or(restart.pages.link.slot, |first| first.1),
                seq: restart.pages.link.seq - restart.pages.places.len() as u64,
                previous: 0,
            };
            superblock.durable_seq = restart.pages.link.seq - 1;
            superblock.epoch = self.epoch - u64::from(!restart.pages.places.is_empty());
            self.begin_flip(superblock, Reason::Restart);
            return true;
        }
        if !restart.pages.syncing {
            // Also without pages: the superblock that was found may be in no more than a cache, and
            // must be durable before the other one is overwritten.
            restart.pages.syncing = true;
            restart.pages.outstanding += 1;
            let purpose = Purpose::Job {
                job: Job::Restart,
                buffer: None,
            };
            self.command(Action::SyncCow, purpose, None, io.out);
            return true;
        }
        moved
    }

    /// Put all that the journal says into new pages, at new slots.
    fn begin_restart(&mut self) -> bool {
        if self.doubt {
            // Before anything is written that only the superblock in doubt names.
            self.begin_flip(self.superblock.clone(), Reason::Doubt);
            return true;
        }
        let shape = self.shape;
        let slots = pages_for(shape, self.delta.puts(), self.delta.fills()) + 2;
        if (self.space.free() as usize) < slots {
            return self.out_of_slots();
        }
        let origin = Origin {
            incarnation: self.new_incarnation(),
            ..self.superblock.origin
        };
        let old_tail = self.journal.back().copied();
        let mut taken = Vec::new();
        let space = &mut self.space;
        let mut packer = Packer {
            room: commit::room(shape.chunk_len()),
            epoch: self.epoch,
            layer: self.superblock.active_layer,
            pages: VecDeque::new(),
            left: 0,
            take: || space.take(),
            taken: &mut taken,
        };
        let packed = if self.delta.is_empty() {
            Some(())
        } else {
            packer.slot().and_then(|slot| {
                packer.begin(slot);
                self.delta
                    .iter()
                    .try_for_each(|(chunk, count, change)| match change {
                        Change::Fill(fill) => packer.fill(chunk, count, fill),
                        Change::Put(entry) => packer.put(chunk, entry),
                    })
            })
        };
        let Some(todo) = packed.and_then(|()| packer.finish()) else {
            debug_assert!(false, "slots were counted before");
            self.broken = Some(Failure::NoSpace);
            return true;
        };
        let mut start = todo
            .front()
            .map_or_else(|| taken.last().copied(), |(slot, _)| Some(*slot));
        if mutant::is(Mutant::NewIncarnationInPlace) && todo.is_empty() {
            start = old_tail.map(|(_, slot)| slot);
        }
        let link = Link {
            slot: start.unwrap_or_default(),
            // Numbers go on, so that no page of any incarnation is mistaken for an earlier one.
            seq: self.journal.back().map_or(1, |(seq, _)| seq + 1),
            previous: 0,
        };
        self.restart = Some(Restart {
            pages: Pages::new(origin, link, todo),
            taken,
            flipping: false,
        });
        true
    }

    /// Both superblocks name the new journal: the old one is history.
    pub(super) fn restart_is_durable(&mut self) {
        let Some(restart) = self.restart.take() else {
            return;
        };
        self.let_go(restart.pages.link.seq - restart.pages.places.len() as u64);
        self.journal.extend(&restart.pages.places);
        let link = restart.pages.link;
        self.journal.push_back((link.seq, link.slot));
        self.tail = Some(link);
        self.staging.set_durable(Durable {
            incarnation: self.superblock.origin.incarnation,
            seq: link.seq - 1,
            generation: self.superblock.generation,
        });
    }

    /// Send pages on, as far as there are buffers.
    fn write_pages(&mut self, job: Job, io: &mut Io<'_, impl Buffers>) -> bool {
        let mut moved = false;
        while let Some(buffer) = self.page_buffer_for_jobs() {
            let (shape, span) = (self.shape, self.page_span(buffer));
            let pages = match job {
                Job::Commit => self.commit.as_mut().map(|commit| &mut commit.pages),
                _ => self.restart.as_mut().map(|restart| &mut restart.pages),
            };
            let Some((pages, action)) = pages
                .and_then(|pages| Some((pages.next(shape, span, io.buffers)?, pages)))
                .map(|(action, pages)| (pages, action))
            else {
                self.page_buffers.push(buffer);
                break;
            };
            pages.outstanding += 1;
            let purpose = Purpose::Job {
                job,
                buffer: Some(buffer),
            };
            self.command(action, purpose, None, io.out);
            moved = true;
        }
        moved
    }

    /// A write or sync of a job has ended.
    pub(super) fn job_step_over(&mut self, job: Job, result: Result<(), Failure>) {
        let failed = result.is_err();
        match job {
            Job::Flip => return self.flip_step_over(result),
            Job::Checkpoint => self.checkpoint_step_over(result),
            Job::Commit => self.commit.iter_mut().for_each(|job| job.pages.over()),
            Job::Restart => self.restart.iter_mut().for_each(|job| job.pages.over()),
        }
        self.trouble |= failed;
    }

    /// Something failed: when nothing is under way any more, end all jobs and begin again in new places.
    pub(super) fn mend(&mut self) -> bool {
        let busy = self.flip_is_busy()
            || self.checkpoint_is_busy()
            || self
                .commit
                .as_ref()
                .is_some_and(|job| job.pages.outstanding > 0)
            || self
                .restart
                .as_ref()
                .is_some_and(|job| job.pages.outstanding > 0);
        if !self.trouble || busy {
            return false;
        }
        let in_doubt = self.drop_flip();
        self.drop_checkpoint(in_doubt);
        if let Some(commit) = self.commit.take() {
            for slot in commit.taken {
                self.space.release(slot);
            }
        }
        if let Some(restart) = self.restart.take() {
            if restart.flipping {
                self.held.extend(restart.taken);
            } else {
                restart
                    .taken
                    .into_iter()
                    .for_each(|slot| self.space.release(slot));
            }
        }
        self.tail = None;
        self.trouble = false;
        self.attempts += 1;
        if self.attempts > ATTEMPTS {
            self.broken = Some(Failure::Io);
        }
        true
    }

    /// Flushes are done at once where the driver decides when epochs end.
    pub(super) fn flush(&mut self, id: RequestId) -> bool {
        let open = !self.staging.open_epoch().is_empty();
        let waits_for = match (open, self.staging.closing().is_some()) {
            (true, _) => self.open_epoch(),
            (false, true) => self.epoch + 1,
            (false, false) => 0,
        };
        // What was found at the open may be in no more than a cache, if nobody cut the power.
        let unsure = self.tail.is_none() && !self.delta.is_empty();
        let wait = self.settings.durability == Durability::Flush && (waits_for > 0 || unsure);
        if wait {
            self.flushes.push((id, waits_for));
        }
        wait
    }
}
