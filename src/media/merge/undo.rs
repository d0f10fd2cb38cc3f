//! Undo logs as files, and bases put back from them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::begun::encoded;
use super::{Both, Phase, Progress, Report, Wishes, depend, room, scrub, seen, words};
use crate::disk::base::Base;
use crate::disk::cowfile::Mode;
use crate::disk::target::Target;
use crate::engine::cowfile::layers::kept::kept_top;
use crate::engine::format::description::{
    Description, Event, EventKind, Identity, LONGEST_TEXT, Sample,
};
use crate::engine::format::superblock::{DESCRIPTION_VERSION, MergeState, Superblock};
use crate::engine::format::{Entry, Shape};
use crate::engine::identity::compare;
use crate::engine::merge::undo::{Head, Log};
use crate::engine::merge::{self, BaseMut, Media};
use crate::engine::units::CHUNK_BYTES;
use crate::media::cowfile::{self, Opened, identify_what_reads};
use crate::media::create::shortened;
use crate::media::session::stand_in_for;
use crate::sys;

/// What came of an undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// The base.
    pub base: PathBuf,
    /// What was put back.
    pub chunks: u64,
    /// The cowfile whose session is on it again; `None`: only the base is as it was.
    pub cowfile: Option<PathBuf>,
    /// The log tells of a merge that was over. If not, that may have gone on without it.
    pub is_whole: bool,
}

/// Whether the log that somebody wishes can be kept, or gone on with: that one, then. Nothing is written.
pub(super) fn look_at(
    both: &Both,
    wishes: &Wishes<'_>,
    report: &Report,
) -> anyhow::Result<Option<(Log, Target)>> {
    let merge = both.merge;
    let Some(place) = wishes.log else {
        if both.is_resumed && merge.is_logged {
            bail!(
                "this merge was begun with an undo log, and goes on with it only; name it with --undo-log, or take the \
                 merge back with --undo; if the log is lost, --without-undo-log goes on, and it cannot be taken back"
            );
        }
        return Ok(None);
    };
    if both.is_resumed && !merge.is_logged {
        bail!("this merge goes on without an undo log, and cannot be taken back");
    }
    let opening = || format!("opening undo log '{}'", place.display());
    let store = both.opened.found.superblock.origin.store;
    if both.is_resumed {
        let (log, file) = open(place).with_context(opening)?;
        if (log.head().store, log.head().id) != (store, merge.id) {
            bail!("{}: it is another merge's, or another cowfile's", opening());
        }
        return Ok(Some((log, file)));
    }
    if place.symlink_metadata().is_ok() && !is_unused(place, store) {
        bail!(
            "{}: there is something of that name already, which is left as it is",
            opening()
        );
    }
    room::for_log(place, &both.base, report).with_context(opening)?;
    Ok(None)
}

/// The log that a merge keeps, begun or gone on with.
pub(super) fn log_for(
    both: &Both,
    (cow, path): (&Path, &Path),
    wishes: &Wishes<'_>,
    report: &Report,
) -> anyhow::Result<Option<(Log, Target)>> {
    let found = look_at(both, wishes, report)?;
    let Some(place) = wishes.log.filter(|_| found.is_none()) else {
        return Ok(found);
    };
    let opening = || format!("opening undo log '{}'", place.display());
    let file = match place.exists() {
        true => Target::own(place),
        false => Target::new_own(place, both.base.file()),
    };
    let mut file = file.with_context(opening)?;
    let superblock = &both.opened.found.superblock;
    let head = Head {
        store: superblock.origin.store,
        id: both.merge.id,
        chunk_shift: Shape::PRODUCT.chunk_shift,
        base_bytes: both.base.size(),
        description: superblock.description.clone(),
        paths: paths([path, cow]),
    };
    let log = Log::create(&mut file, head);
    let log = log.map_err(|stopped| words::stopped(stopped, [None, Some(&mut file)]))?;
    Ok(Some((log, file)))
}

fn open(place: &Path) -> anyhow::Result<(Log, Target)> {
    let mut file = Target::own(place)?;
    let log = Log::open(&mut file);
    let log = log.map_err(|stopped| words::stopped(stopped, [None, Some(&mut file)]))?;
    Ok((log, file))
}

/// A log of a merge of this cowfile that never came to write anything.
fn is_unused(place: &Path, store: [u8; 16]) -> bool {
    let file = Target::own(place);
    file.is_ok_and(|mut file| {
        let is_unused = |log: Log| log.is_empty() && log.head().store == store;
        file.size_bytes() == 0 || Log::open(&mut file).is_ok_and(is_unused)
    })
}

fn paths(paths: [&Path; 2]) -> Vec<u8> {
    let whole = paths.map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    let bytes = whole
        .iter()
        .flat_map(|path| [path.as_os_str().as_bytes(), b"\0"]);
    bytes.collect::<Vec<_>>().concat()
}

/// Whose session goes back with its base.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// That of the cowfile that was merged, where it was.
    Merged,
    /// The same; it is here.
    At(&'a Path),
    /// Nobody's: the base alone.
    Nobody,
}

/// Put a base back as a log has it, and the session that was merged on it, if it was kept. A base that is not named is
/// where it was.
///
/// # Errors
/// What stands in the way, or what came of it halfway; then it can be begun again.
pub fn undo(
    place: &Path,
    base: Option<&Path>,
    whose: Whose<'_>,
    progress: &mut Progress<'_>,
) -> anyhow::Result<Undone> {
    let doing = || format!("undoing the merge that '{}' tells of", place.display());
    let (mut log, mut file) = open(place).with_context(doing)?;
    let mut were = log.head().paths.split(|byte| *byte == 0);
    let mut path_was = || Path::new(OsStr::from_bytes(were.next().unwrap_or_default())).to_owned();
    let (base_was, cow_was) = (path_was(), path_was());
    let path = base.map_or(base_was, Path::to_owned);
    let opening = || format!("{}: opening base '{}'", doing(), path.display());
    let mut target = Target::base(&path).with_context(opening)?;
    require_merged(&log, &seen(&target, &path)?).with_context(opening)?;
    let mut session = session(&log, whose, &cow_was).with_context(doing)?;
    let (cow, left_out) = match whose {
        Whose::Merged => (cow_was.as_path(), None),
        Whose::At(cow) => (cow, None),
        Whose::Nobody => (cow_was.as_path(), Some(log.head().store)),
    };
    depend::require_none_after_undo(cow, left_out, &path, &seen(&target, &path)?)
        .with_context(doing)?;
    let chunks = log.kept_chunks();
    let total = chunks * CHUNK_BYTES;
    let mut done = 0;
    if let Some((opened, _)) = &mut session {
        scrub_kept(opened, progress).with_context(doing)?;
    }
    let mut watch = |chunks: u64| {
        done += chunks * CHUNK_BYTES;
        progress(Phase::Undoing, done, total);
    };
    let (result, cowfile) = match session {
        Some((mut opened, path)) => {
            let description = before(&log, &opened).with_context(doing)?;
            let found = opened.found.clone();
            let media = Media {
                cow: &mut opened.files,
                base: &mut target,
                log: Some((&mut log, &mut file)),
            };
            let result = merge::take_back(media, &found, description, &mut watch);
            (result, Some(path))
        }
        None => (log.undo(&mut file, &mut target, &mut watch), None),
    };
    result
        .map_err(|stopped| words::stopped(stopped, [Some(&mut target), Some(&mut file)]))
        .with_context(doing)?;
    Ok(Undone {
        base: path,
        chunks,
        cowfile,
        is_whole: log.description_after().is_some(),
    })
}

/// The base is what this merge made of it, or any part of that.
fn require_merged(log: &Log, base: &Base) -> anyhow::Result<()> {
    let described = |bytes: &[u8]| {
        let about = Description::decode(DESCRIPTION_VERSION, bytes);
        about.map_err(|fault| anyhow::anyhow!("the undo log: {fault}"))
    };
    let before = described(&log.head().description)?.base;
    let after = log
        .description_after()
        .map(described)
        .transpose()?
        .map(|it| it.base);
    let is_kept = |chunk: u64| log.has(chunk);
    if base.size_bytes() < before.size_bytes {
        bail!(
            "it has {} bytes, and never had less than {}: it is not the base of that merge",
            base.size_bytes(),
            before.size_bytes
        );
    }
    let fits = |wanted: &Identity| -> anyhow::Result<()> {
        if base.size_bytes() < wanted.size_bytes {
            return Ok(());
        }
        let there = identify_what_reads(base, log.head().store, wanted.size_bytes);
        compare(wanted, &there, Some(&is_kept)).map_err(|difference| {
            anyhow::anyhow!(
                "it is not the base of that merge, or was changed since: {difference}; undo later merges first"
            )
        })
    };
    let sizes = [
        Some(before.size_bytes),
        after.as_ref().map(|after| after.size_bytes),
    ];
    if log.description_after().is_some() && !sizes.contains(&Some(base.size_bytes())) {
        bail!(
            "it has {} bytes, which is its size neither before nor after that merge",
            base.size_bytes()
        );
    }
    fits(&before)?;
    let Some(after) = after else { return Ok(()) };
    fits(&after)?;
    if base.size_bytes() < after.size_bytes {
        return Ok(());
    }
    // What the log has may be as before or as after, and nothing else.
    let there = identify_what_reads(base, log.head().store, after.size_bytes);
    let known: Vec<Sample> = before
        .samples
        .iter()
        .chain(&after.samples)
        .copied()
        .collect();
    let is_strange = |sample: &&Sample| {
        let mut same = known
            .iter()
            .filter(|known| known.chunk == sample.chunk)
            .peekable();
        same.peek().is_some() && !same.any(|known| known == *sample)
    };
    let strange = there.samples.iter().filter(is_strange).count();
    match strange {
        0 => Ok(()),
        _ => bail!("it was changed since, by another merge perhaps: undo that first"),
    }
}

/// The cowfile that was merged, if its session can be on the base again.
fn session(log: &Log, whose: Whose<'_>, was: &Path) -> anyhow::Result<Option<(Opened, PathBuf)>> {
    const ALONE: &str = "--without-cowfile puts back the base alone";
    let (path, is_named) = match whose {
        Whose::Merged => (was, false),
        Whose::At(path) => (path, true),
        Whose::Nobody => {
            // Whatever else it is good for, it may know that the log is not.
            let opened = cowfile::open(was, Mode::Read, None).ok();
            return opened
                .map_or(Ok(()), |opened| require_fitting(log, &opened, was))
                .map(|()| None);
        }
    };
    let not_there = || {
        format!(
            "the session that was merged goes back with its base, and its cowfile is not '{}'; name it (cowroot merge \
             --undo LOG COWFILE), or if it is lost: {ALONE}",
            path.display()
        )
    };
    if !is_named && !path.exists() {
        bail!("{}", not_there());
    }
    let opened = cowfile::open(path, Mode::Write, None);
    let mut opened = opened.with_context(|| {
        format!("opening the cowfile whose session goes back with its base ({ALONE})")
    })?;
    require_fitting(log, &opened, path)?;
    let superblock = &opened.found.superblock;
    let merge = superblock.merge;
    if superblock.origin.store != log.head().store {
        bail!("{}", not_there());
    }
    if merge.id == log.head().id && (merge.state == MergeState::UnderWay || merge.kept != 0) {
        opened.settle()?;
        return Ok(Some((opened, path.to_owned())));
    }
    let mut layers = superblock.layers.iter().flatten();
    let is_empty = opened.found.delta.is_empty() && layers.all(|layer| layer.root == Entry::ABSENT);
    if is_later(log, superblock) || !is_empty {
        bail!(
            "cowfile '{}' was merged again since, or has a session over the merged base, which would be lost; undo \
             later merges first, or lose it: {ALONE}",
            path.display()
        );
    }
    if is_named {
        bail!(
            "cowfile '{}': what that merge merged was dropped; {ALONE}",
            path.display()
        );
    }
    Ok(None)
}

/// The last merge that was begun is another one.
fn is_later(log: &Log, superblock: &Superblock) -> bool {
    let id = superblock.merge.id;
    id != 0 && id != log.head().id
}

/// The log has all that was overwritten, as far as this cowfile knows.
fn require_fitting(log: &Log, opened: &Opened, path: &Path) -> anyhow::Result<()> {
    let superblock = &opened.found.superblock;
    let is_own = superblock.origin.store == log.head().store;
    if is_own && is_later(log, superblock) && log.description_after().is_none() {
        bail!(
            "cowfile '{}': the merge that this log is of went on without it, or was taken back; it does not have all \
             that was overwritten since, and puts nothing back",
            path.display()
        );
    }
    Ok(())
}

/// The session that goes back is whole: until now the base has all of it, too.
fn scrub_kept(opened: &mut Opened, progress: &mut Progress<'_>) -> anyhow::Result<()> {
    let superblock = &opened.found.superblock;
    if superblock.merge.state == MergeState::UnderWay {
        return Ok(());
    }
    let top = kept_top(superblock).context("the cowfile has nothing that was merged")?;
    let mut kept = opened.found.clone();
    kept.look_at(top);
    let scrubbed = scrub(&mut opened.files, &kept, top, progress);
    scrubbed
        .map(drop)
        .map_err(|stopped| words::stopped(stopped, [None, None]))
}

/// What the cowfile's description is when the base is as before: sessions as they are now.
fn before(log: &Log, opened: &Opened) -> anyhow::Result<Vec<u8>> {
    let old = Description::decode(DESCRIPTION_VERSION, &log.head().description);
    let old = old.map_err(|fault| anyhow::anyhow!("the undo log: {fault}"))?;
    let mut about = opened.description.clone();
    for layer in &mut about.layers {
        if let Some(was) = old.layers.iter().find(|was| was.number == layer.number) {
            layer.name.clone_from(&was.name);
        } else if old.layers.iter().any(|was| was.name == layer.name) {
            // It took the place of one that is back.
            layer.name = stand_in_for(&layer.name);
        }
    }
    about.base = old.base;
    about.history.push(Event {
        at_s: sys::now_s(),
        kind: EventKind::Merged,
        text: shortened("taken back: the base is as before", LONGEST_TEXT),
    });
    encoded(&about)
}
