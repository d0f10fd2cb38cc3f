//! A session merged into its base, with all that has to be looked at before: the base, the session, and who else
//! depends on either.

mod begun;
mod depend;
mod output;
mod room;
mod undo;
mod words;

use std::path::Path;

use anyhow::{Context, bail};

use super::cowfile::{self, Opened, identify};
use super::text;
use crate::disk::base::Base;
use crate::disk::cowfile::{CowFiles, Mode};
use crate::disk::target::Target;
use crate::engine::cowfile::layers::merging;
use crate::engine::cowfile::recover::Recovered;
use crate::engine::format::superblock::{Merge, MergeState};
use crate::engine::merge::{self, How, Media, Stopped, Totals, ZEROS};
use crate::engine::units::CHUNK_BYTES;
use crate::sys;

pub use begun::{Due, ask, ask_in_use, due, make_ready};
pub use output::output;
pub use undo::{Undone, Whose, undo};
pub use words::Damage;

/// Chunks between two syncs of the base: 32 MiB.
const BATCH_CHUNKS: u64 = 8 << 10;

/// What is to be merged, and what is kept.
#[derive(Debug, Clone, Default)]
pub struct Wishes<'a> {
    /// The topmost session that is merged, by name or number; all of them if `None`.
    pub up_to: Option<&'a str>,
    /// The same by its number alone.
    pub top: Option<u8>,
    /// Drop the merged layers at once.
    pub frees: bool,
    /// Keep what is overwritten here.
    pub log: Option<&'a Path>,
    /// Go on with what was begun without the undo log that it was begun with.
    pub without_log: bool,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The session is read, and compared with its checksums.
    Checking,
    /// It is written to the base.
    Merging,
    /// Base and session are written to a new image.
    Copying,
    /// The base becomes what it was.
    Undoing,
}

/// What is told of it: bytes done, of about so many.
pub type Progress<'a> = dyn FnMut(Phase, u64, u64) + 'a;

/// What a merge does, or would do.
#[derive(Debug, Clone)]
pub struct Report {
    /// The names of the layers, from the top.
    pub sessions: Vec<String>,
    /// How much they hold.
    pub totals: Totals,
    /// The base, before and after.
    pub base_bytes: (u64, u64),
    /// It was begun before.
    pub is_resumed: bool,
    /// Something of it stays on top.
    pub is_partial: bool,
    /// The merged layers are dropped at once: as it was begun, whatever is wished now.
    pub frees: bool,
}

impl Report {
    /// Bytes that are written to the base.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.totals.data_chunks * CHUNK_BYTES
    }

    /// The base would stay as it is.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        let (before, after) = self.base_bytes;
        !self.is_resumed && self.totals == Totals::default() && before == after
    }
}

/// A session that can be merged, and its base.
struct Both {
    opened: Opened,
    base: Target,
    merge: Merge,
    is_resumed: bool,
}

/// Merge `cow` into `path`, or go on with that. Where there is nothing to merge all stays as it is: what the last merge
/// kept, too.
///
/// # Errors
/// What stands in the way: nothing was changed then. Or what came of it halfway: then it can be gone on with.
pub fn into_base(
    cow: &Path,
    path: &Path,
    wishes: &Wishes<'_>,
    progress: &mut Progress<'_>,
) -> anyhow::Result<Report> {
    let doing = || format!("merging '{}' into '{}'", cow.display(), path.display());
    let mut both = open_with(cow, path, wishes, Mode::Write).with_context(doing)?;
    let report = look(&mut both, path, progress).with_context(doing)?;
    if report.is_nothing() {
        begun::ask_no_longer(&mut both.opened, both.merge.top).with_context(doing)?;
        return Ok(report);
    }
    run(&mut both, (cow, path), wishes, &report, progress).with_context(doing)?;
    Ok(report)
}

/// What `into_base` would do; nothing is changed.
///
/// # Errors
/// What stands in its way.
pub fn try_into_base(
    cow: &Path,
    path: &Path,
    wishes: &Wishes<'_>,
    progress: &mut Progress<'_>,
) -> anyhow::Result<Report> {
    let doing = || format!("merging '{}' into '{}'", cow.display(), path.display());
    let mut both = open_with(cow, path, wishes, Mode::Read).with_context(doing)?;
    let report = look(&mut both, path, progress).with_context(doing)?;
    room::for_base(&both.base, path, &report).with_context(doing)?;
    undo::look_at(&both, wishes, &report).with_context(doing)?;
    Ok(report)
}

fn open_with(cow: &Path, path: &Path, wishes: &Wishes<'_>, mode: Mode) -> anyhow::Result<Both> {
    let mut opened = cowfile::open(cow, mode, None)?;
    let base = Target::base(path).with_context(|| format!("opening base '{}'", path.display()))?;
    opened.require_base(&seen(&base, path)?)?;
    let superblock = &opened.found.superblock;
    let is_resumed = superblock.merge.state == MergeState::UnderWay;
    let top = match wishes.top {
        Some(top) => top,
        None => top_of(&opened, wishes.up_to)?,
    };
    merging::may(superblock, top).map_err(|why| words::refused(&opened, why))?;
    if !is_resumed {
        depend::require_none(cow, path, &seen(&base, path)?)?;
    }
    let id = u64::from_le_bytes(sys::random().context("asking the kernel for a random number")?);
    let merge = match is_resumed {
        // A log that turns up again does not know what is written from now on.
        true if wishes.without_log && superblock.merge.is_logged => Merge {
            is_logged: false,
            id,
            ..superblock.merge
        },
        true => superblock.merge,
        false => Merge {
            top,
            frees: wishes.frees,
            is_logged: wishes.log.is_some(),
            id,
            ..Merge::default()
        },
    };
    Ok(Both {
        opened,
        base,
        merge,
        is_resumed,
    })
}

/// A base as it is known by, through the same descriptor: another would look like another user.
fn seen(base: &Target, path: &Path) -> anyhow::Result<Base> {
    let file = base.file().try_clone().context("opening the base again")?;
    let size_bytes = match base.is_device() {
        true => sys::block_device_size_bytes(&file)?,
        false => file.metadata()?.len(),
    };
    Ok(Base::of(file, path, size_bytes))
}

/// The layer that somebody names: the uppermost of that name in the stack. The one that is being merged, if one is.
fn top_of(opened: &Opened, name: Option<&str>) -> anyhow::Result<u8> {
    let superblock = &opened.found.superblock;
    let merge = superblock.merge;
    let Some(name) = name else {
        return Ok(match merge.state {
            MergeState::UnderWay => merge.top,
            _ => superblock.active_layer,
        });
    };
    let mut stack = superblock.stack().into_iter().map(|(number, _)| number);
    let is_named = |number: &u8| {
        let layers = opened.description.layers.iter();
        let mut named = layers.filter(|layer| layer.number == *number);
        named.any(|layer| layer.name == name) || name.parse() == Ok(*number)
    };
    stack.find(is_named).with_context(|| {
        let names: Vec<String> = stack_names(opened, superblock.active_layer);
        format!(
            "no session '{name}' is in use; from the top there are: {}",
            names.join(", ")
        )
    })
}

/// The names of a layer and those below it.
fn stack_names(opened: &Opened, top: u8) -> Vec<String> {
    let numbers = merging::merged_with(&opened.found.superblock, top);
    let name = |number: u8| words::name_of(opened, number);
    numbers.into_iter().map(name).collect()
}

/// Look whether it can be, and read all that would be merged. The base is not touched.
fn look(both: &mut Both, path: &Path, progress: &mut Progress<'_>) -> anyhow::Result<Report> {
    let opened = &mut both.opened;
    let superblock = &opened.found.superblock;
    let (base_bytes, device_bytes) = (both.base.size(), superblock.device_bytes);
    if base_bytes < device_bytes {
        let missing = device_bytes - base_bytes;
        if both.base.is_device() {
            bail!(
                "the device was made larger than its base: {} more than the block device has; --output makes a new image",
                text::size(missing)
            );
        }
    }
    let report = Report {
        sessions: stack_names(opened, both.merge.top),
        totals: Totals::default(),
        base_bytes: (base_bytes, base_bytes.max(device_bytes)),
        is_resumed: both.is_resumed,
        is_partial: both.merge.top != superblock.active_layer,
        frees: both.merge.frees,
    };
    // Whether it may grow shows before all of the session is read: a boot asks each time.
    room::for_base(&both.base, path, &report)?;
    let totals = scrub(&mut opened.files, &opened.found, both.merge.top, progress);
    let totals = totals.map_err(|stopped| match both.is_resumed {
        true => words::stopped_midway(stopped, both.merge, [None, None]),
        false => words::stopped(stopped, [None, None]),
    })?;
    Ok(Report { totals, ..report })
}

/// Read the layers up to this one, and compare them with their checksums.
fn scrub(
    files: &mut CowFiles,
    found: &Recovered,
    top: u8,
    progress: &mut Progress<'_>,
) -> Result<Totals, Stopped> {
    let how = How {
        top,
        batch_chunks: BATCH_CHUNKS,
        zeros: ZEROS,
    };
    let about = u64::from(found.superblock.high_water) * CHUNK_BYTES;
    let mut done = 0;
    merge::scrub(files, found, how, &mut |chunks| {
        done += chunks * CHUNK_BYTES;
        progress(Phase::Checking, done.min(about), about);
    })
}

fn run(
    both: &mut Both,
    (cow, path): (&Path, &Path),
    wishes: &Wishes<'_>,
    report: &Report,
    progress: &mut Progress<'_>,
) -> anyhow::Result<()> {
    both.opened.settle()?;
    room::for_base(&both.base, path, report)?;
    let mut log = undo::log_for(both, (cow, path), wishes, report)?;
    let total = (report.totals.data_chunks + report.totals.zero_chunks) * CHUNK_BYTES;
    let mut done = 0;
    let describe = begun::after(both, path, report)?;
    let Both {
        opened,
        base,
        merge,
        ..
    } = both;
    let found = opened.found.clone();
    let store = found.superblock.origin.store;
    let media = Media {
        cow: &mut opened.files,
        base,
        log: log.as_mut().map(|(log, file)| (log, file)),
    };
    let result = merge::run(
        media,
        found,
        (*merge, BATCH_CHUNKS),
        &mut |base: &mut Target| {
            let identity = seen(base, path).and_then(|seen| identify(&seen, store));
            describe(identity.map_err(|error| format!("{error:#}"))?)
        },
        &mut |chunks| {
            done += chunks * CHUNK_BYTES;
            progress(Phase::Merging, done, total);
        },
    );
    let file = log.as_mut().map(|(_, file)| file);
    result
        .map(drop)
        .map_err(|stopped| words::stopped_midway(stopped, *merge, [Some(base), file]))
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod merge_tests;
