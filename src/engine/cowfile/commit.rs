//! Commits: an epoch's chunks and pages in one stream, one sync, and its flushes are done.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::delta::{Change, Delta};
use super::mutant::{self, Mutant};
use super::pages::{Packer, Pages, pages_for};
use super::pending::{Io, Job, Purpose};
use super::staging::Durable;
use super::{Cowfile, Durability};
use crate::engine::command::{Action, Buffer, Buffers, Failure, Outbox, RequestId, Span};
use crate::engine::format::commit;
use crate::engine::format::{Entry, Shape, page};

/// An epoch on its way to the medium.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) pages: Pages,
    /// Where its chunks go.
    named: Delta<Entry>,
    /// All slots it took, its first page's not among them.
    pub(super) taken: Vec<u32>,
}

/// An epoch, ready to be written.
struct Packed {
    todo: VecDeque<(u32, commit::Page)>,
    named: Delta<Entry>,
    taken: Vec<u32>,
    /// Chunks of the staging pool, and where they go.
    writes: Vec<(u32, Span)>,
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// Make durable what is acknowledged.
    pub fn commit(&mut self, buffers: &mut impl Buffers, out: &mut Outbox) {
        // With nothing open, the next write would be committed alone.
        if self.has_open_changes() {
            self.wanted = self.open_epoch();
        }
        self.pump(&mut Io { buffers, out });
    }

    /// No more requests will come: commit what is acknowledged, and leave a cowfile that opens without its
    /// journal. Changes that are still under way fail. Done when `is_closed`.
    pub fn close(&mut self, buffers: &mut impl Buffers, out: &mut Outbox) {
        self.closing_down = true;
        self.commit(buffers, out);
    }

    /// Whether there is nothing more to write.
    pub fn is_closed(&self) -> bool {
        let idle = self.commit.is_none()
            && self.checkpoint.is_none()
            && self.restart.is_none()
            && self.flip.is_none()
            && self.change.is_none()
            && !self.trouble;
        let nothing_staged = !self.has_open_changes()
            && self.staging.closing().is_none()
            && self.staging.used() == 0;
        let nothing_new = (self.superblock.clean || self.tail.is_none()) && !self.is_in_doubt();
        self.broken.is_some() || (idle && nothing_staged && nothing_new)
    }

    /// Whether anybody wants the open epoch to end.
    pub(super) fn wants_commit(&self) -> bool {
        let open = self.staging.open_epoch();
        let waited_for =
            self.flushes.iter().any(|(_, epoch)| *epoch > self.epoch) || self.wanted > self.epoch;
        let filling = self.staging.used() >= self.settings.staging_chunks.div_ceil(4);
        let cramped = !self.staging.has_room() || !self.starved.is_empty();
        !open.is_empty() && (waited_for || filling || cramped)
    }

    pub(super) fn step_commit(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        if self.trouble || self.broken.is_some() {
            return false;
        }
        if self.commit.is_none() {
            let due = self.staging.closing().is_some() || self.wants_commit();
            let may = self.tail.is_some()
                && !self.journal_is_full()
                && (!self.is_at_change() || mutant::is(Mutant::CommitInChange));
            return due && may && self.begin_commit(io);
        }
        let moved = self.write_pages(Job::Commit, io);
        let Some(commit) = &mut self.commit else {
            return moved;
        };
        if commit.pages.synced {
            self.commit_is_durable();
            return true;
        }
        if !commit.pages.is_written() || commit.pages.syncing || self.syncing {
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
        self.short = false;
        if self.staging.closing().is_none() {
            self.staging.close();
        }
        let Some(closing) = self.staging.closing() else {
            return false;
        };
        let changes: Vec<(u64, u64, Change<u32>)> = closing.iter().collect();
        let Some(packed) = self.pack(tail.slot, &changes, io) else {
            debug_assert!(false, "slots were counted before");
            self.broken = Some(Failure::NoSpace);
            return true;
        };
        let Packed {
            todo,
            named,
            taken,
            writes,
        } = packed;
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

    /// Take slots for an epoch's chunks, and put what they are called into pages.
    fn pack(
        &mut self,
        first: u32,
        changes: &[(u64, u64, Change<u32>)],
        io: &mut Io<'_, impl Buffers>,
    ) -> Option<Packed> {
        let shape = self.shape;
        let (mut taken, mut named) = (Vec::new(), Delta::new(shape.fanout_shift));
        let (mut puts, mut writes) = (Vec::new(), Vec::new());
        let space = &mut self.space;
        let mut packer = Packer {
            room: commit::room(shape.chunk_len()),
            epoch: self.epoch + 1,
            layer: self.superblock.active_layer,
            pages: VecDeque::new(),
            left: 0,
            take: || space.take(),
            taken: &mut taken,
        };
        packer.begin(first);
        for &(chunk, count, change) in changes {
            match change {
                Change::Fill(fill) => named.fill(chunk..chunk + count, fill, |_| {}),
                Change::Put(place) => puts.push((chunk, place)),
            }
        }
        // Neighbours on the device stay together, for short records and long reads. Else it goes by where
        // chunks are in memory, for long writes. And all chunks before the pages: recovery reads those
        // one after the other.
        let mut runs: Vec<_> = puts.chunk_by(|one, next| one.0 + 1 == next.0).collect();
        runs.sort_unstable_by_key(|run| run.first().map(|(_, place)| *place));
        for &(chunk, place) in runs.into_iter().flatten() {
            let span = Span {
                buffer: Buffer::Staging,
                start: (place as usize) << shape.chunk_shift,
                len: shape.chunk_len(),
            };
            let slot = packer.slot()?;
            let crc = page::checksum(io.buffers.bytes(span));
            named.put(chunk, Entry { slot, crc });
            add_write(&mut writes, shape, slot, span);
        }
        for (chunk, count, change) in named.iter() {
            match change {
                Change::Fill(fill) => packer.fill(chunk, count, fill)?,
                Change::Put(entry) => packer.put(chunk, entry)?,
            }
        }
        let todo = packer.finish()?;
        Some(Packed {
            todo,
            named,
            taken,
            writes,
        })
    }

    /// Slots are short for now, or for good. Whether that is news.
    pub(super) fn out_of_slots(&mut self) -> bool {
        // A zone that failed once is better than none.
        if self.space.unbar() {
            return true;
        }
        let is_news = !std::mem::replace(&mut self.short, true);
        // Without a journal there is no checkpoint.
        let garbage = self.tail.is_some() && (self.has_garbage() || self.has_jobs());
        let may_come = garbage
            || self.scan.is_some()
            || self.may_scan_again()
            || self.growing
            || self.space.grown() < self.max_slots;
        if !may_come {
            self.broken = Some(Failure::NoSpace);
        }
        is_news || !may_come
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

    /// Flushes are done at once where the driver decides when epochs end.
    pub(super) fn flush(&mut self, id: RequestId) -> bool {
        let open = !self.staging.open_epoch().is_empty();
        let waits_for = match (open, self.staging.closing().is_some()) {
            (true, _) => self.open_epoch(),
            (false, true) => self.epoch + 1,
            (false, false) => 0,
        };
        // What was found at the open may be in no more than a cache, if nobody cut the power.
        let unsure = self.tail.is_none() && !self.delta.is_empty() && !self.read_only;
        let wait = self.settings.durability == Durability::Flush && (waits_for > 0 || unsure);
        if wait {
            self.flushes.push((id, waits_for));
        }
        wait
    }
}

/// Let a chunk be written to a slot: with the chunk before, if it lies behind that one in both places.
/// A write that fails bars its zone, so none reaches into another.
fn add_write(writes: &mut Vec<(u32, Span)>, shape: Shape, slot: u32, span: Span) {
    if let Some((first, from)) = writes.last_mut()
        && from.start + from.len == span.start
        && shape.offset_bytes(*first) + from.len as u64 == shape.offset_bytes(slot)
        && *first / shape.zone_slots == slot / shape.zone_slots
    {
        from.len += span.len;
    } else {
        writes.push((slot, span));
    }
}
