//! The persistent store: what is written survives power cuts, as docs/format.md promises.
//!
//! A write goes to staging memory and is done. When an epoch closes its chunks go to fresh slots in
//! one stream with the pages that name them, then one sync, then its flushes are done. Beside that
//! a checkpoint folds what the journal says into the trees. Nothing waits inside: every step that
//! needs the medium is a command, and `pump` looks what can go on whenever one has ended.
//!
//! ```text
//! requests.rs  reads.rs  writes.rs   what is asked       commit.rs  pages.rs      epochs
//! room.rs                            what is accepted    restart.rs               a new journal
//! loads.rs  runs.rs  trees.rs        what is where       checkpoint.rs  fold.rs   the trees
//! space.rs  zones.rs  bits.rs        what is free
//! staging.rs  delta.rs               what is new         flip.rs                  superblocks
//! found.rs  recover.rs  offline.rs   what was found      create.rs  layers.rs     closed ones
//! change.rs                          layers in use
//! check.rs  walk.rs  slots.rs        what is whole       repair.rs  spare.rs      and made so
//! ```

mod bits;
mod change;
pub mod check;
mod checkpoint;
mod commit;
pub mod create;
pub mod delta;
mod flip;
mod fold;
pub mod found;
pub mod layers;
mod loads;
mod mutant;
pub mod offline;
mod pages;
mod pending;
mod reading;
mod reads;
pub mod recover;
pub mod repair;
mod requests;
mod restart;
mod room;
mod runs;
mod settings;
#[cfg(test)]
mod simulation;
pub mod slots;
pub mod space;
mod spare;
pub mod staging;
pub mod trees;
pub mod trouble;
mod walk;
mod writes;
mod zones;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use slab::Slab;

use change::Change;
use checkpoint::Checkpoint;
use commit::Commit;
use delta::Delta;
use flip::Flip;
use found::Standing;
use loads::Scan;
use pending::{Io, Pending, Purpose, UnderWay};
use recover::Recovered;
use restart::Restart;
use space::Space;
use staging::{Damage, Staging};
use trees::Trees;

use crate::engine::command::{
    Action, Buffer, Buffers, Command, CommandId, Failure, Outbox, RequestId, Span,
};
use crate::engine::format::check::Access;
use crate::engine::format::commit::Link;
use crate::engine::format::superblock::Superblock;
use crate::engine::format::{Entry, Shape};
use crate::engine::plan::Geometry;
use crate::engine::turns::Turns;
use crate::engine::units::Limits;

pub use settings::{Durability, Settings, Usage, WhenFull};

use mutant::Mutant;

/// Steps that one call may take; a million commits' worth.
const MOST_STEPS: usize = 1 << 12;

/// The persistent store of one device, with its requests.
#[derive(Debug)]
pub struct Cowfile<W> {
    settings: Settings,
    shape: Shape,
    geometry: Geometry,
    /// The last one written, or found.
    superblock: Superblock,
    /// The highest generation that may be on the medium.
    generation: u64,
    /// What the journal says since the last checkpoint began, and what that one folds.
    delta: Delta<Entry>,
    frozen: Option<Delta<Entry>>,
    /// The last durable epoch.
    epoch: u64,
    /// Where the journal goes on; `None` until this open has begun its own.
    tail: Option<Link>,
    /// Pages of the journal, by sequence number.
    journal: VecDeque<(u64, u32)>,
    /// Slots that become free when both superblocks have been written again.
    held: Vec<u32>,
    staging: Staging<W>,
    space: Space,
    trees: Trees,
    /// Page buffers nobody uses.
    page_buffers: Vec<u32>,

    commit: Option<Commit>,
    checkpoint: Option<Checkpoint>,
    restart: Option<Restart>,
    flip: Option<Flip>,
    change: Option<Change>,
    scan: Option<Scan>,
    /// How often the trees could not be read whole.
    failed_scans: u32,
    growing: bool,
    /// A sync is under way: one at a time, for an error that one is told is told no other.
    syncing: bool,
    /// Slots to grow by.
    grow_slots: u32,
    /// How large the cowfile can become, as far as is known.
    max_slots: u32,
    /// How the superblocks stand, as far as is known.
    standing: Standing,
    /// A job's write or sync failed; jobs end and begin again.
    trouble: bool,
    /// How often that was, one after another.
    attempts: u32,
    /// No write will succeed any more.
    broken: Option<Failure>,
    /// It was opened so: then there is nothing to flush.
    read_only: bool,
    /// Somebody asked for a commit of this epoch.
    wanted: u64,
    /// A job found too few free slots.
    short: bool,
    closing_down: bool,

    turns: Turns,
    /// By request number.
    requests: Vec<Option<UnderWay>>,
    commands: Slab<Pending>,
    /// Flushes, and the epoch each waits for.
    flushes: Vec<(RequestId, u64)>,
    /// Requests that wait for room.
    starved: VecDeque<RequestId>,
    /// Requests that wait for a page buffer.
    unbuffered: VecDeque<RequestId>,
    /// Tree pages on their way, and who waits for them.
    loading: HashMap<u32, Vec<RequestId>>,
    unreadable: HashSet<u32>,
    /// The one that was just found to be so: nobody waits for it once more.
    given_up: Option<u32>,
    scratch: Vec<usize>,
}

/// Scratch chunks that a driver with `depth` requests at a time must lend.
#[must_use]
pub fn scratch_chunks(depth: usize) -> usize {
    2 * depth
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// Go on with what `recover` found. `words` are all zero.
    pub fn open(found: Recovered, words: W, settings: Settings) -> Self {
        let superblock = &found.superblock;
        let staging = Staging::create(
            words,
            superblock.origin.store,
            settings.staging_chunks,
            superblock.shape.fanout_shift,
        );
        Self::with(found, staging, settings)
    }

    /// Go on with what `recover` found and what the process before left in `words`.
    ///
    /// # Errors
    /// If the words are not what a process with such settings would have left.
    pub fn resume(found: Recovered, words: W, settings: Settings) -> Result<Self, Damage> {
        let superblock = &found.superblock;
        let (store, shift) = (superblock.origin.store, superblock.shape.fanout_shift);
        let (pool, chunks) = (settings.staging_chunks, superblock.chunks());
        let mut staging = Staging::open(words, store, pool, shift, chunks)?;
        if mutant::is(Mutant::StagingNotReplayed) {
            staging.forget();
        }
        Ok(Self::with(found, staging, settings))
    }

    fn with(found: Recovered, staging: Staging<W>, settings: Settings) -> Self {
        let Recovered {
            superblock,
            delta,
            epoch,
            tail,
            journal,
            standing,
            access,
            dropped,
            ..
        } = found;
        let shape = superblock.shape;
        let mut pages: VecDeque<(u64, u32)> = (superblock.journal.seq..).zip(journal).collect();
        pages.push_back((tail.seq, tail.slot));
        let space = loads::space_of(&superblock, &delta, &pages, &dropped);
        let cached_pages = settings.cached_pages(&superblock);
        let resumed = mutant::is(Mutant::OpenWithoutRestart);
        pages.truncate(pages.len() - usize::from(resumed));
        let mut cowfile = Self {
            shape,
            geometry: settings::geometry(&superblock),
            generation: superblock.generation,
            delta,
            frozen: None,
            epoch,
            tail: resumed.then_some(tail),
            journal: pages,
            held: dropped,
            staging,
            trees: Trees::new(shape, superblock.chunks(), cached_pages),
            page_buffers: (0..settings.page_buffers).collect(),
            commit: None,
            checkpoint: None,
            restart: None,
            flip: None,
            change: None,
            scan: None,
            failed_scans: 0,
            growing: false,
            syncing: false,
            grow_slots: settings.grow_slots,
            max_slots: superblock.max_slots,
            standing,
            trouble: false,
            attempts: 0,
            // Features that a writer must know: reads are served, and nothing is written.
            broken: (access != Access::ReadWrite).then_some(Failure::Io),
            read_only: access != Access::ReadWrite,
            wanted: 0,
            short: false,
            closing_down: false,
            turns: Turns::default(),
            requests: (0..settings.depth).map(|_| None).collect(),
            commands: Slab::new(),
            flushes: Vec::new(),
            starved: VecDeque::new(),
            unbuffered: VecDeque::new(),
            loading: HashMap::new(),
            unreadable: HashSet::new(),
            given_up: None,
            scratch: (0..scratch_chunks(settings.depth)).collect(),
            space,
            superblock,
            settings,
        };
        cowfile.begin_scan();
        cowfile
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        let capacity = self.max_slots;
        let free = self.space.free() + self.space.free_when_grown(capacity);
        let frozen = self.frozen.as_ref().map_or(0, Delta::bytes);
        Usage {
            limits: Limits {
                capacity,
                reserve: self.settings.metadata_reserve,
            },
            used: capacity - free.min(capacity),
            is_known: self.space.is_known(),
            map_bytes: self.trees.bytes() + self.delta.bytes() + frozen,
            staged: self.staging.used(),
            epoch: self.epoch,
        }
    }

    /// Why no write succeeds any more, if so.
    pub fn broken(&self) -> Option<Failure> {
        self.broken
    }

    /// Whether it was opened to be read, and is not written whatever happens.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The number of the epoch that a write acknowledged now belongs to.
    pub fn open_epoch(&self) -> u64 {
        self.epoch + 1 + u64::from(self.staging.closing().is_some())
    }

    /// Whether anything is acknowledged that belongs to the open epoch.
    pub fn has_open_changes(&self) -> bool {
        !self.staging.open_epoch().is_empty()
    }

    /// The number that stands for this open.
    pub fn incarnation(&self) -> u64 {
        self.superblock.origin.incarnation
    }

    /// Let go on what can go on.
    fn pump(&mut self, io: &mut Io<'_, impl Buffers>) {
        // Every step either ends something or begins it, so this ends; if a mistake made it go round
        // for ever, a device that fails is better than one that hangs.
        for _ in 0..MOST_STEPS {
            let moved = self.mend()
                | self.step_flip(io)
                | self.step_standing()
                | self.step_restart(io)
                | self.step_commit(io)
                | self.step_checkpoint(io)
                | self.step_change()
                | self.step_scan(io)
                | self.step_growth(io)
                | self.step_flushes(io.out)
                | self.step_unbuffered(io)
                | self.feed(io);
            if !moved {
                return;
            }
        }
        debug_assert!(false, "the store goes round in circles");
        self.broken = Some(Failure::Io);
    }

    /// Whether anything is being made durable.
    fn has_jobs(&self) -> bool {
        self.commit.is_some()
            || self.checkpoint.is_some()
            || self.restart.is_some()
            || self.flip.is_some()
    }

    /// Ask for something to be run.
    fn command(
        &mut self,
        action: Action,
        purpose: Purpose,
        request: Option<RequestId>,
        out: &mut Outbox,
    ) {
        if let Some(under_way) = request.and_then(|id| self.under_way(id)) {
            under_way.pending += 1;
        }
        self.syncing |= action == Action::SyncCow;
        let key = self.commands.insert(Pending {
            action,
            purpose,
            request,
        });
        out.commands.push(Command {
            id: CommandId(key),
            action,
        });
    }

    /// A chunk of the staging pool.
    fn pool_span(&self, place: u32) -> Span {
        Span {
            buffer: Buffer::Staging,
            start: (place as usize) << self.shape.chunk_shift,
            len: self.shape.chunk_len(),
        }
    }

    /// A page buffer, behind the pool.
    fn page_span(&self, buffer: u32) -> Span {
        self.pool_span(self.settings.staging_chunks + buffer)
    }

    /// A number that stands for a new open.
    fn new_incarnation(&mut self) -> u64 {
        // splitmix64: the driver's randomness, spread; a driver never gives the same twice.
        self.settings.random = self.settings.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.settings.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}
