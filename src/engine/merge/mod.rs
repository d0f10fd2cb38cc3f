//! A session merged into its base: the layers' chunks copied down, so that the base alone reads as they did.
//!
//! A layer only says "chunk X holds C", and while it is stacked nobody reads the base's copy. So C may be written to the
//! base any number of times, in any order, and at every instant base and session read as before. What has an order is
//! at the ends: the superblocks say that a merge is under way before the base is touched, and that it is over when
//! the base is durable; and an undo log has what is overwritten before it is.
//!
//! ```text
//! mod.rs     the order of all this          batch.rs   what is copied, read and checked
//! scrub.rs   what is read before
//! undo.rs    the log of what was there      record.rs  its bytes
//! output.rs  into a new image instead       serving.rs while one is under way
//! settle.rs  a cowfile closed before       compare.rs what is there, and is to be
//! ```

mod batch;
mod compare;
mod mutant;
pub mod output;
mod record;
mod scrub;
mod serving;
pub mod settle;
#[cfg(test)]
mod simulation;
pub mod undo;

use crate::engine::command::Failure;
use crate::engine::cowfile::create::MediumMut;
use crate::engine::cowfile::layers::merging::{self, NotMerged};
use crate::engine::cowfile::recover::{Medium, Recovered, recover};
use crate::engine::cowfile::trouble::Trouble;
use crate::engine::format::superblock::{Merge, MergeState};
use batch::{Batch, Batches};
use compare::Compare;
use mutant::Mutant;
use scrub::Lost;
use undo::Log;

pub use scrub::scrub;
pub use serving::{covered, needs_layer};

/// Bytes that are compared at a time.
const COMPARED: usize = 1 << 20;

/// What is written to: a base, a new image, an undo log.
pub trait BaseMut {
    /// Its size.
    fn size_bytes(&mut self) -> u64;

    /// Read from `offset` on until `into` is full; all of it lies within the size.
    ///
    /// # Errors
    /// It does not read there.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Failure>;

    /// Write from `offset` on, within the size.
    ///
    /// # Errors
    /// It cannot be written there.
    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), Failure>;

    /// Let a stretch within the size read as zeros, and take no space where that can be.
    ///
    /// # Errors
    /// It cannot be written there.
    fn zero(&mut self, offset: u64, len: u64) -> Result<(), Failure>;

    /// Let it have this size: longer by zeros, or shorter.
    ///
    /// # Errors
    /// It cannot.
    fn resize(&mut self, size_bytes: u64) -> Result<(), Failure>;

    /// Make durable what was written, and the size.
    ///
    /// # Errors
    /// It may not be durable.
    fn sync(&mut self) -> Result<(), Failure>;

    /// Let what is read of this stretch next be read from the medium; it was synced.
    fn forget(&mut self, offset: u64, len: u64);

    /// This stretch is read soon: the medium may begin with it.
    fn will_read(&mut self, offset: u64, len: u64) {
        let _only_advice = (offset, len);
    }
}

/// Which medium gave an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The base, or the new image.
    Base,
    /// The undo log.
    Log,
    /// The base that a new image is copied from.
    Source,
}

impl Side {
    /// It gave an error: what was being done there, and where, in bytes.
    fn failed(self, doing: &'static str, offset: u64) -> impl FnOnce(Failure) -> Stopped {
        move |failure| Stopped::Failed {
            side: self,
            doing,
            offset,
            failure,
        }
    }
}

/// Why a merge ended early. It can be gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The cowfile does not open.
    Session(Trouble),
    /// Chunks of the session do not read, or not as they were written, or nothing says what they are.
    Damaged {
        /// Their starts and ends, ascending, apart from each other.
        stretches: Vec<(u64, u64)>,
        /// No others are damaged. If not, too many are to go on looking.
        is_all: bool,
    },
    /// A medium gave an error.
    Failed {
        /// Which.
        side: Side,
        /// What was being done.
        doing: &'static str,
        /// Where, in bytes.
        offset: u64,
        /// What came of it.
        failure: Failure,
    },
    /// What was written to the base reads otherwise, at this byte.
    Differs(u64),
    /// The superblocks.
    State(NotMerged),
    /// The undo log is another merge's, or damaged.
    Log(undo::BadLog),
    /// The base's identity could not be taken.
    Unknown(String),
}

/// How much a session has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Chunks with data.
    pub data_chunks: u64,
    /// Chunks that are zeros.
    pub zero_chunks: u64,
}

/// How a merge is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// The topmost layer that is merged.
    pub top: u8,
    /// Chunks copied between two syncs of the base.
    pub batch_chunks: u64,
    /// So many chunks of zeros count as one of data.
    pub zeros: u64,
}

/// Chunks of zeros that cost as much as one of data, where they need not be kept before.
pub const ZEROS: u64 = 4;

/// The media of a merge.
#[derive(Debug)]
pub struct Media<'a, M, B, L> {
    /// The cowfile.
    pub cow: &'a mut M,
    /// The base.
    pub base: &'a mut B,
    /// The undo log, if there is one, and what it is in.
    pub log: Option<(&'a mut Log, &'a mut L)>,
}

/// What is told of progress: chunks done since the last time, zeros too.
pub type Watch<'a> = dyn FnMut(u64) + 'a;

/// What makes the description of a cowfile whose base is what it has become.
pub type Describe<'a, B> = dyn FnMut(&mut B) -> Result<Vec<u8>, String> + 'a;

/// Merge what was scrubbed into the base, or go on with that. `merge` says up to which layer, and what becomes of the
/// layers. With a log, what is overwritten is kept there first.
///
/// # Errors
/// Why it ended early. Base and session read as before, whatever that is.
pub fn run<M: MediumMut, B: BaseMut, L: BaseMut>(
    mut media: Media<'_, M, B, L>,
    found: Recovered,
    (merge, batch_chunks): (Merge, u64),
    describe: &mut Describe<'_, B>,
    watch: &mut Watch<'_>,
) -> Result<Recovered, Stopped> {
    let how = How {
        top: merge.top,
        batch_chunks,
        zeros: if media.log.is_some() { 1 } else { ZEROS },
    };
    let shape = found.superblock.shape;
    let is_resumed = found.superblock.merge.state == MergeState::UnderWay;
    let before = found.clone();
    let early = mutant::is(Mutant::CopiesBeforeSaying);
    if !early {
        merging::begin(media.cow, &found, merge).map_err(Stopped::State)?;
    }
    if mutant::is(Mutant::FreedEarly) {
        let found = recover(media.cow, shape, None).map_err(Stopped::Session)?;
        retire(&mut media, &found, describe)?;
    }
    fit(media.base, &before)?;
    copy(&mut media, &before, (how, is_resumed), watch)?;
    if early {
        merging::begin(media.cow, &found, merge).map_err(Stopped::State)?;
    }
    if !mutant::is(Mutant::RetiredBeforeSync) {
        sync(media.base)?;
    }
    let found = recover(media.cow, shape, None).map_err(Stopped::Session)?;
    if !mutant::is(Mutant::FreedEarly) {
        retire(&mut media, &found, describe)?;
    }
    recover(media.cow, shape, None).map_err(Stopped::Session)
}

fn retire<M: MediumMut, B: BaseMut, L: BaseMut>(
    media: &mut Media<'_, M, B, L>,
    found: &Recovered,
    describe: &mut Describe<'_, B>,
) -> Result<(), Stopped> {
    let size_bytes = media.base.size_bytes();
    let mut description = describe(media.base).map_err(Stopped::Unknown)?;
    if mutant::is(Mutant::IdentityNotUpdated) {
        description.clone_from(&found.superblock.description);
    }
    if let Some((log, file)) = &mut media.log {
        log.end(*file, &description)?;
    }
    merging::finish(media.cow, found, size_bytes, description)
        .map(drop)
        .map_err(Stopped::State)
}

/// A base that is shorter than its device becomes as long: the session may reach beyond it. Durably, before anything
/// is written: a file system that says it is larger than its file is taken for half a copy by whoever boots it.
fn fit(base: &mut impl BaseMut, found: &Recovered) -> Result<(), Stopped> {
    let device_bytes = found.superblock.device_bytes;
    if base.size_bytes() < device_bytes {
        base.resize(device_bytes)
            .map_err(Side::Base.failed("growing", device_bytes))?;
        sync(base)?;
    }
    Ok(())
}

fn sync(base: &mut impl BaseMut) -> Result<(), Stopped> {
    let size_bytes = base.size_bytes();
    base.sync()
        .map_err(Side::Base.failed("syncing", size_bytes))
}

/// Copy the chunks down, batch by batch: each is synced, and read again. One that was begun before is compared first,
/// and only what differs is written: what a crash left is known by its content, and by nothing else.
pub(super) fn copy<M: Medium, B: BaseMut, L: BaseMut>(
    media: &mut Media<'_, M, B, L>,
    found: &Recovered,
    (how, is_resumed): (How, bool),
    watch: &mut Watch<'_>,
) -> Result<(), Stopped> {
    let Media { cow, base, log } = media;
    let base = &mut **base;
    if is_resumed {
        // What another process wrote may be in a cache that the medium does not keep up with.
        sync(base)?;
    }
    let mut batches = Batches::new(found, how);
    let (mut bytes, mut compare) = (Vec::new(), Compare::default());
    let mut lost = Lost::default();
    while let Some(mut batch) = batches.next(*cow, &mut lost) {
        batch.load(*cow, bytes, &mut lost);
        if !lost.is_empty() {
            // It was whole when it was scrubbed. Nothing more is written, but what else is damaged is worth knowing.
            break;
        }
        let (data, zero) = batch.counts();
        if is_resumed {
            batch.read_anew(base);
            batch.drop_what_is_there(base, &mut compare)?;
        }
        let after = mutant::is(Mutant::UndoAfterData);
        if let Some((log, file)) = log.as_mut().filter(|_| !after) {
            log.keep(*file, base, &batch)?;
        }
        write(base, &batch)?;
        if !mutant::is(Mutant::RetiredBeforeSync) && !mutant::is(Mutant::NamedBeforeSync) {
            sync(base)?;
        }
        if let Some((log, file)) = log.as_mut().filter(|_| after) {
            log.keep(*file, base, &batch)?;
        }
        batch.read_anew(base);
        if let Some(offset) = batch.first_difference(base, &mut compare)? {
            return Err(Stopped::Differs(offset));
        }
        watch(data + zero);
        bytes = batch.into_bytes();
    }
    scrub::rest(&mut batches, *cow, lost, watch).map(drop)
}

/// Take a merge back, or what was begun of it: the merged layers are below what came later again, then the base is what
/// it was. `description` is the cowfile's for the base before.
///
/// # Errors
/// Why it ended early. Base and session read as before.
pub fn take_back<M: MediumMut, B: BaseMut, L: BaseMut>(
    media: Media<'_, M, B, L>,
    found: &Recovered,
    description: Vec<u8>,
    watch: &mut Watch<'_>,
) -> Result<(), Stopped> {
    let other = Stopped::Log(undo::BadLog::Other);
    let Media { cow, base, log } = media;
    let Some((log, file)) = log else {
        return Err(other);
    };
    let head = log.head();
    let superblock = &found.superblock;
    if (superblock.origin.store, superblock.merge.id) != (head.store, head.id) {
        return Err(other);
    }
    merging::begin_undo(cow, found, head.base_bytes, description).map_err(Stopped::State)?;
    log.undo(file, base, watch)?;
    let found = recover(cow, superblock.shape, None).map_err(Stopped::Session)?;
    merging::finish_undo(cow, &found)
        .map(drop)
        .map_err(Stopped::State)
}

fn write(base: &mut impl BaseMut, batch: &Batch) -> Result<(), Stopped> {
    for piece in batch.pieces() {
        let offset = batch.offset(piece);
        let written = match batch.bytes(piece) {
            Some(bytes) => base.write(offset, bytes),
            None if mutant::is(Mutant::ZeroSkipped) => Ok(()),
            None => base.zero(offset, batch.len(piece)),
        };
        written.map_err(Side::Base.failed("writing", offset))?;
    }
    Ok(())
}
