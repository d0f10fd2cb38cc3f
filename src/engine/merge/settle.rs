//! A cowfile that was left in the middle, closed without a device: its journal folded into its trees.
//!
//! The store itself does it, as if it had been attached and detached.

use std::sync::atomic::AtomicU32;

#[cfg(test)]
use crate::engine::command::Request;
use crate::engine::command::{Action, Buffer, Buffers, Failure, Outbox, Outcome, RequestId, Span};
use crate::engine::cowfile::create::MediumMut;
use crate::engine::cowfile::layers::Edit;
use crate::engine::cowfile::recover::{Recovered, recover};
use crate::engine::cowfile::staging::Staging;
use crate::engine::cowfile::trouble::Trouble;
use crate::engine::cowfile::{Cowfile, Durability, Settings, WhenFull, scratch_chunks};
use crate::engine::format::Shape;
use crate::engine::format::page::Origin;

/// What the store may take: nothing is written but what the journal says.
const STAGED: u32 = 16;
const PAGES: u32 = 64;
const CACHED: usize = 2048;

/// Why a cowfile is as it was, or closed only in part: it reads as before either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSettled {
    /// The medium does not take writes, or has no room.
    Failed(Failure),
    /// It has no room, and was not to grow. Nothing it was told failed.
    Full,
    /// What was written does not read.
    Unreadable(Trouble),
}

struct Memory {
    shape: Shape,
    request: Vec<u8>,
    scratch: Vec<u8>,
    staging: Vec<u8>,
}

impl Memory {
    fn range(&self, span: Span) -> std::ops::Range<usize> {
        let start = match span.buffer {
            Buffer::Scratch(number) => (number << self.shape.chunk_shift) + span.start,
            Buffer::Request(_) | Buffer::Staging => span.start,
        };
        start..start + span.len
    }
}

impl Buffers for Memory {
    fn bytes(&self, span: Span) -> &[u8] {
        let memory = match span.buffer {
            Buffer::Request(_) => &self.request,
            Buffer::Scratch(_) => &self.scratch,
            Buffer::Staging => &self.staging,
        };
        memory.get(self.range(span)).unwrap_or_default()
    }

    fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let range = self.range(span);
        let memory = match span.buffer {
            Buffer::Request(_) => &mut self.request,
            Buffer::Scratch(_) => &mut self.scratch,
            Buffer::Staging => &mut self.staging,
        };
        memory.get_mut(range).unwrap_or_default()
    }
}

/// Close what `recover` found, if it is not: afterwards its journal is empty, and both superblocks say so.
/// It grows by `grow_slots`, if it has to; by none, if that is 0. `random` is a number that was never used before.
///
/// # Errors
/// Why not.
pub fn settle(
    medium: &mut impl MediumMut,
    found: Recovered,
    grow_slots: u32,
    random: u64,
) -> Result<Recovered, NotSettled> {
    if found.superblock.clean && found.delta.is_empty() && !found.torn {
        return Ok(found);
    }
    let shape = found.superblock.shape;
    let mut store = Driven::new(medium, found, (grow_slots, random));
    store.close();
    if let Some(failure) = store.engine.broken() {
        return Err(NotSettled::Failed(failure));
    }
    let found = recover(medium, shape, None).map_err(NotSettled::Unreadable)?;
    match found.superblock.clean && found.delta.is_empty() {
        true => Ok(found),
        false if grow_slots == 0 => Err(NotSettled::Full),
        false => Err(NotSettled::Failed(Failure::Io)),
    }
}

/// A store, and whoever runs its commands, in their order.
struct Driven<'a, M> {
    medium: &'a mut M,
    shape: Shape,
    origin: Origin,
    engine: Cowfile<Box<[AtomicU32]>>,
    memory: Memory,
}

impl<'a, M: MediumMut> Driven<'a, M> {
    fn new(medium: &'a mut M, found: Recovered, (grow_slots, random): (u32, u64)) -> Self {
        let (shape, origin) = (found.superblock.shape, found.superblock.origin);
        let settings = settings(grow_slots, random);
        let words = Staging::<Box<[AtomicU32]>>::words_needed(STAGED);
        let words = (0..words).map(|_| AtomicU32::new(0)).collect();
        let memory = Memory {
            shape,
            request: Vec::new(),
            scratch: vec![0; scratch_chunks(settings.depth) << shape.chunk_shift],
            staging: vec![0; settings.staging_bytes(&found.superblock)],
        };
        Self {
            engine: Cowfile::open(found, words, settings),
            medium,
            shape,
            origin,
            memory,
        }
    }

    fn close(&mut self) {
        // A change of nothing has the journal folded in, be it one that was found.
        let about = self.engine.superblock().description.clone();
        let (engine, memory) = (&mut self.engine, &mut self.memory);
        let mut out = Outbox::default();
        let asked = engine.change_layers(Edit::Describe, about, memory, &mut out);
        if asked.is_ok() {
            self.run(out);
        }
        let mut out = Outbox::default();
        self.engine.close(&mut self.memory, &mut out);
        self.run(out);
    }

    fn run(&mut self, mut out: Outbox) -> Vec<(RequestId, Result<(), Failure>)> {
        while !out.commands.is_empty() {
            let command = out.commands.remove(0);
            let outcome = self.execute(command.action);
            self.engine
                .complete(command.id, outcome, &mut self.memory, &mut out);
        }
        out.done
    }

    fn execute(&mut self, action: Action) -> Outcome {
        let shift = self.shape.chunk_shift;
        let slot = |offset: u64| u32::try_from(offset >> shift).map_err(|_| Failure::Io);
        let (medium, memory) = (&mut *self.medium, &mut self.memory);
        match action {
            Action::ReadCow { offset, into } => {
                medium.read(slot(offset)?, memory.bytes_mut(into))?
            }
            Action::WriteCow { offset, from } => medium.write(slot(offset)?, memory.bytes(from))?,
            Action::SyncCow => medium.sync()?,
            Action::GrowCow { offset, len } => {
                medium.grow(slot(offset)?, slot(offset + len)?, self.origin)?;
            }
            // Nobody reads or forgets anything.
            Action::ReadBase { .. } | Action::PunchCow { .. } => return Err(Failure::Io),
        }
        Ok(action.transfer_bytes())
    }
}

/// For tests: write to a cowfile as a session does, whole chunks only, then close it or leave it.
#[cfg(test)]
pub(crate) fn change(
    medium: &mut impl MediumMut,
    found: Recovered,
    random: u64,
    changes: &[(Request, Vec<u8>)],
    is_closed: bool,
) {
    let mut store = Driven::new(medium, found, (8, random));
    for (request, bytes) in changes {
        store.memory.request.clone_from(bytes);
        let mut out = Outbox::default();
        store.engine.submit(*request, &mut store.memory, &mut out);
        assert_eq!(store.run(out), [(request.id, Ok(()))], "{request:?}");
    }
    let mut out = Outbox::default();
    store.engine.commit(&mut store.memory, &mut out);
    store.run(out);
    if is_closed {
        store.close();
    }
    assert_eq!(store.engine.broken(), None);
}

fn settings(grow_slots: u32, random: u64) -> Settings {
    Settings {
        depth: 1,
        staging_chunks: STAGED,
        page_buffers: PAGES,
        durability: Durability::Driver,
        when_full: WhenFull::Fail,
        journal_pages: usize::MAX / 4,
        journal_chunks: usize::MAX / 4,
        cached_pages: CACHED,
        grow_slots,
        metadata_reserve: 0,
        random,
    }
}
