//! Superblocks: written one after the other, each durable before the next.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::found::Standing;
use super::mutant::{self, Mutant};
use super::pending::{Io, Job, Purpose};
use super::staging::Durable;
use crate::engine::command::{Action, Buffer, Buffers, Failure, Span};
use crate::engine::format::superblock::{ERASED, Superblock};

/// What a superblock on its way is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// New roots.
    Checkpoint,
    /// A new incarnation; the other copy follows.
    Restart,
    /// The other copy, for a new incarnation.
    RestartAgain,
    /// The other copy, to say what the one says that was found. That one may be in no more than a cache,
    /// so a sync comes first.
    Doubt,
    /// None: a sync, for both may be in no more than a cache.
    Settle,
    /// The other copy, so that what only it needed becomes free.
    Again,
    /// Other layers; the other copy follows.
    Layers,
    /// The other copy, for those.
    LayersAgain,
}

/// A superblock on its way.
#[derive(Debug)]
pub(super) struct Flip {
    pub(super) reason: Reason,
    superblock: Superblock,
    /// What is still to do, in this order.
    todo: VecDeque<Step>,
    /// The first of it is under way.
    outstanding: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A sync of what was found, which may be in no more than a cache.
    Settle,
    /// `ERASED` where the superblock is to be.
    Erase,
    Write,
    Sync,
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// Write a superblock, one generation after the last.
    pub(super) fn begin_flip(&mut self, mut superblock: Superblock, reason: Reason) {
        let torn = self.standing == Standing::Torn;
        self.generation += 1;
        superblock.generation = self.generation;
        superblock.grown_slots = self.space.grown();
        if !mutant::is(Mutant::HighWaterNotStored) {
            superblock.high_water = self.space.high_water();
        }
        if !mutant::is(Mutant::FreeExtentsNotRenewed) || superblock.free.is_empty() {
            superblock.free = self.space.free_extents();
        }
        self.flip = Some(Flip {
            reason,
            superblock,
            todo: match reason {
                Reason::Doubt if torn => [
                    Step::Settle,
                    Step::Erase,
                    Step::Sync,
                    Step::Write,
                    Step::Sync,
                ]
                .into(),
                Reason::Doubt => [Step::Settle, Step::Write, Step::Sync].into(),
                _ => [Step::Write, Step::Sync].into(),
            },
            outstanding: false,
        });
    }

    /// Make both superblocks durable as they are.
    fn settle_superblocks(&mut self) {
        self.flip = Some(Flip {
            reason: Reason::Settle,
            superblock: self.superblock.clone(),
            todo: [Step::Settle].into(),
            outstanding: false,
        });
    }

    /// Before anything is written to a slot that only another superblock names.
    pub(super) fn step_standing(&mut self) -> bool {
        let idle = self.flip.is_none() && !self.trouble && self.broken.is_none();
        let wanted = self.wants_restart() || self.wants_growth();
        if !idle || !(wanted || self.closing_down && self.is_in_doubt()) {
            return false;
        }
        match self.standing {
            _ if mutant::is(Mutant::StandingIgnored) => self.standing = Standing::Durable,
            Standing::Durable => return false,
            Standing::Cached => self.settle_superblocks(),
            Standing::Doubtful | Standing::Torn => {
                self.begin_flip(self.superblock.clone(), Reason::Doubt)
            }
        }
        true
    }

    /// Whether the process before died while it wrote superblocks: a sync of them may have failed, which nobody hears
    /// of any more. Only who has its memory knows that, so it does not go before they are written again.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.standing != Standing::Durable && self.staging.durable().is_some()
    }

    pub(super) fn step_flip(&mut self, io: &mut Io<'_, impl Buffers>) -> bool {
        let at = self.settings.superblock_at(self.shape);
        let Some(flip) = self.flip.as_mut().filter(|flip| !flip.outstanding) else {
            return false;
        };
        if self.trouble {
            return false;
        }
        let Some(&step) = flip.todo.front() else {
            if let Some(flip) = self.flip.take() {
                self.flipped(flip);
            }
            return true;
        };
        let is_write = matches!(step, Step::Write | Step::Erase);
        if !is_write && self.syncing {
            return false;
        }
        flip.outstanding = true;
        let action = match is_write {
            false => Action::SyncCow,
            true => {
                let len = flip.superblock.len();
                let from = Span {
                    buffer: Buffer::Staging,
                    start: at,
                    len: len.next_multiple_of(self.shape.chunk_len()),
                };
                let bytes = io.buffers.bytes_mut(from);
                match step {
                    Step::Erase => bytes.fill(ERASED),
                    _ => flip.superblock.encode(bytes),
                }
                let offset = self.shape.offset_bytes(flip.superblock.slot());
                Action::WriteCow { offset, from }
            }
        };
        let purpose = Purpose::Job {
            job: Job::Flip,
            buffer: None,
        };
        self.command(action, purpose, None, io.out);
        true
    }

    /// The write or the sync of a superblock has ended.
    pub(super) fn flip_step_over(&mut self, result: Result<(), Failure>) {
        if let Some(flip) = &mut self.flip {
            flip.outstanding = false;
            match result {
                Ok(()) => drop(flip.todo.pop_front()),
                Err(_) => self.trouble = true,
            }
        }
    }

    /// Whether a command of the flip is under way.
    pub(super) fn flip_is_busy(&self) -> bool {
        self.flip.as_ref().is_some_and(|flip| flip.outstanding)
    }

    /// Give up a superblock on its way; it may be on the medium or not. Says so, if there was one.
    pub(super) fn drop_flip(&mut self) -> bool {
        let Some(flip) = self.flip.take() else {
            return false;
        };
        if flip.todo.front() == Some(&Step::Settle) && self.staging.durable().is_none() {
            // The sync of what was found, of which nobody has a copy: it may be gone below the cache, and no
            // later sync would tell. It can be read, and another open, or a power cut, shows what there is.
            self.broken = Some(Failure::Io);
        }
        if flip.reason == Reason::Settle {
            self.standing = Standing::Doubtful;
            return false;
        }
        // The next one goes to the same copy: the other is the one that is known to be whole.
        self.generation += 1;
        true
    }

    /// A superblock is durable.
    fn flipped(&mut self, flip: Flip) {
        let before = std::mem::replace(&mut self.superblock, flip.superblock);
        if self.standing == Standing::Durable {
            self.staging.set_generation(self.superblock.generation);
        }
        match flip.reason {
            Reason::Checkpoint => {
                self.let_go(before.journal.seq);
                self.checkpoint_is_durable();
            }
            Reason::Restart if mutant::is(Mutant::OneSuperblock) => self.restart_is_durable(),
            Reason::Restart => self.begin_flip(self.superblock.clone(), Reason::RestartAgain),
            Reason::RestartAgain => self.restart_is_durable(),
            Reason::Doubt | Reason::Settle => {
                // And all that was found, for a sync came first.
                self.standing = Standing::Durable;
                self.staging.set_durable(Durable {
                    incarnation: self.superblock.origin.incarnation,
                    seq: self.journal.back().map_or(0, |(tail, _)| tail - 1),
                    generation: self.superblock.generation,
                });
            }
            Reason::Again => self.let_go(self.superblock.journal.seq),
            Reason::Layers => self.layers_are_durable(),
            Reason::LayersAgain => self.layers_are_changed(),
        }
    }

    /// Both superblocks are past what was held for the older one; its journal began at `seq`.
    pub(super) fn let_go(&mut self, seq: u64) {
        for slot in std::mem::take(&mut self.held) {
            self.space.release(slot);
        }
        while let Some((_, slot)) = self.journal.pop_front_if(|(page, _)| *page < seq) {
            self.space.release(slot);
        }
    }
}
