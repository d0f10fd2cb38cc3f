//! A new journal: after an open, and after a write or a sync that failed.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::delta::Change;
use super::flip::Reason;
use super::found::Standing;
use super::mutant::{self, Mutant};
use super::pages::{Packer, Pages, pages_for};
use super::pending::{Io, Job, Purpose};
use super::staging::Durable;
use crate::engine::command::{Action, Buffers, Failure};
use crate::engine::format::commit::{self, Link};
use crate::engine::format::page::Origin;
use crate::engine::format::superblock::KNOWN_AUTOCLEAR;

/// How often jobs begin again before the store gives up.
const ATTEMPTS: u32 = 3;

/// A new journal on its way to the medium, in a new incarnation.
#[derive(Debug)]
pub(super) struct Restart {
    pub(super) pages: Pages,
    taken: Vec<u32>,
    /// Its superblocks are on their way.
    flipping: bool,
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// Whether a new journal has to be begun before anything can be committed.
    pub(super) fn wants_restart(&self) -> bool {
        let waited_for = self.flushes.iter().any(|(_, epoch)| *epoch > self.epoch)
            || self.flushes.iter().any(|(_, epoch)| *epoch == 0);
        let waited_for = waited_for
            || self.wants_commit()
            || self.staging.closing().is_some()
            || (!self.starved.is_empty() && self.has_garbage());
        self.tail.is_none() && (waited_for || self.attempts > 0 || self.change.is_some())
    }

    pub(super) fn step_restart(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        if self.trouble || self.broken.is_some() {
            return false;
        }
        if self.restart.is_none() {
            let may = self.flip.is_none() && self.standing == Standing::Durable;
            return may && self.wants_restart() && self.begin_restart();
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
            superblock.features.autoclear &= KNOWN_AUTOCLEAR;
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
        if !restart.pages.syncing && !self.syncing {
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
        let shape = self.shape;
        let slots = pages_for(shape, self.delta.puts(), self.delta.fills()) + 2;
        if (self.space.free() as usize) < slots {
            return self.out_of_slots();
        }
        self.short = false;
        let origin = Origin {
            incarnation: self.new_incarnation(),
            ..self.superblock.origin
        };
        // Numbers go on, so that no page of any incarnation is mistaken for an earlier one.
        let seq = self.journal.back().map_or(1, |(seq, _)| seq + 1);
        let in_place = (mutant::is(Mutant::NewIncarnationInPlace) && !self.delta.is_empty())
            .then(|| self.journal.pop_back().map(|(_, slot)| slot))
            .flatten();
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
            in_place.or_else(|| packer.slot()).and_then(|slot| {
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
        let start = todo
            .front()
            .map_or_else(|| taken.last().copied(), |(slot, _)| Some(*slot));
        let link = Link {
            slot: start.unwrap_or_default(),
            seq,
            previous: 0,
        };
        let mut pages = Pages::new(origin, link, todo);
        pages.synced = pages.todo.is_empty();
        self.restart = Some(Restart {
            pages,
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
}
