//! What whoever drives an engine sees of it, whichever store it has.

use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use crate::engine::command::{Buffers, CommandId, Failure, Outbox, Outcome, Request};
use crate::engine::cowfile::Cowfile;
use crate::engine::cowfile::layers::{Edit, NotDone};
use crate::engine::format::superblock::Superblock;
use crate::engine::stack::Stack;
use crate::engine::units::Limits;

/// How an engine is doing, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// What its cowfile may grow to.
    pub limits: Limits,
    /// Slots that hold something, or are not known to be free yet.
    pub used_slots: u32,
    /// Whether there are none of the latter.
    pub used_is_known: bool,
    /// Bytes of RAM its map takes.
    pub map_bytes: u64,
    /// Chunks acknowledged and not durable.
    pub staged_chunks: u32,
    /// Whether anything is, be it only that chunks are zeros now.
    pub is_dirty: bool,
    /// The last epoch that is durable; 0 where nothing ever is.
    pub epoch: u64,
    /// Why no write succeeds any more; not where none was to succeed from the start.
    pub broken: Option<Failure>,
}

/// A base and a cowfile as one disk, as whoever drives it sees it. It waits for nothing and does no I/O.
pub trait Engine {
    /// A request comes in. Its number must not be under way.
    fn submit(&mut self, request: Request, buffers: &mut impl Buffers, out: &mut Outbox);

    /// A command has ended.
    fn complete(
        &mut self,
        id: CommandId,
        outcome: Outcome,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
    );

    /// Make durable what is acknowledged.
    fn commit(&mut self, buffers: &mut impl Buffers, out: &mut Outbox);

    /// No more requests will come: commit everything, and leave a cowfile that opens fast.
    fn close(&mut self, buffers: &mut impl Buffers, out: &mut Outbox);

    /// Whether there is nothing more to write.
    fn is_closed(&self) -> bool;

    /// Change the layers as `plan` says, which is told what they are.
    ///
    /// # Errors
    /// What `plan` says, or that they cannot change.
    fn change_layers(
        &mut self,
        plan: impl FnOnce(&Superblock) -> Result<(Edit, Vec<u8>), String>,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
    ) -> Result<(), String>;

    /// Whether that is still under way.
    fn changes_layers(&self) -> bool;

    /// How it is doing.
    fn gauges(&self) -> Gauges;
}

/// A session in RAM: nothing is ever durable, so there is nothing to commit or to close.
impl<W: Deref<Target = [AtomicU32]>> Engine for Stack<W> {
    fn submit(&mut self, request: Request, buffers: &mut impl Buffers, out: &mut Outbox) {
        Self::submit(self, request, buffers, out);
    }

    fn complete(
        &mut self,
        id: CommandId,
        outcome: Outcome,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
    ) {
        Self::complete(self, id, outcome, buffers, out);
    }

    fn commit(&mut self, _: &mut impl Buffers, _: &mut Outbox) {}

    fn close(&mut self, _: &mut impl Buffers, _: &mut Outbox) {}

    fn is_closed(&self) -> bool {
        true
    }

    fn change_layers(
        &mut self,
        _: impl FnOnce(&Superblock) -> Result<(Edit, Vec<u8>), String>,
        _: &mut impl Buffers,
        _: &mut Outbox,
    ) -> Result<(), String> {
        Err("what is written to it is in RAM; it has no sessions".into())
    }

    fn changes_layers(&self) -> bool {
        false
    }

    fn gauges(&self) -> Gauges {
        let usage = self.usage();
        Gauges {
            limits: usage.limits,
            used_slots: usage.used_slots,
            used_is_known: true,
            map_bytes: usage.map_bytes,
            staged_chunks: 0,
            is_dirty: false,
            epoch: 0,
            broken: None,
        }
    }
}

impl<W: Deref<Target = [AtomicU32]>> Engine for Cowfile<W> {
    fn submit(&mut self, request: Request, buffers: &mut impl Buffers, out: &mut Outbox) {
        Self::submit(self, request, buffers, out);
    }

    fn complete(
        &mut self,
        id: CommandId,
        outcome: Outcome,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
    ) {
        Self::complete(self, id, outcome, buffers, out);
    }

    fn commit(&mut self, buffers: &mut impl Buffers, out: &mut Outbox) {
        Self::commit(self, buffers, out);
    }

    fn close(&mut self, buffers: &mut impl Buffers, out: &mut Outbox) {
        Self::close(self, buffers, out);
    }

    fn is_closed(&self) -> bool {
        Self::is_closed(self)
    }

    fn change_layers(
        &mut self,
        plan: impl FnOnce(&Superblock) -> Result<(Edit, Vec<u8>), String>,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
    ) -> Result<(), String> {
        let (edit, description) = plan(self.superblock())?;
        Self::change_layers(self, edit, description, buffers, out).map_err(|why| match why {
            NotDone::TooMany => {
                "there are 64 sessions already; merge them into the base, or delete one".into()
            }
            NotDone::InUse(_) => {
                "other sessions depend on what would change; delete them first, or make a new image with --output".into()
            }
            NotDone::Merging => "a merge is under way; let that end first".into(),
            _ => "the cowfile takes no writes, or is being closed".into(),
        })
    }

    fn changes_layers(&self) -> bool {
        Self::changes_layers(self)
    }

    fn gauges(&self) -> Gauges {
        let usage = self.usage();
        Gauges {
            limits: usage.limits,
            used_slots: usage.used,
            used_is_known: usage.is_known,
            map_bytes: usage.map_bytes,
            staged_chunks: usage.staged,
            is_dirty: usage.staged > 0 || self.has_open_changes(),
            epoch: usage.epoch,
            broken: self.broken().filter(|_| !self.is_read_only()),
        }
    }
}
