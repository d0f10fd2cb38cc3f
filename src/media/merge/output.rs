//! A new image of a base with its session in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::{BATCH_CHUNKS, Phase, Progress, Report, Wishes, stack_names, top_of, words};
use crate::disk::base::Base;
use crate::disk::cowfile::Mode;
use crate::disk::image::{NewImage, Original};
use crate::disk::target::{Target, remove};
use crate::engine::cowfile::layers::kept::is_mixed;
use crate::engine::merge::{self, How, ZEROS, output as engine};
use crate::engine::units::CHUNK_BYTES;
use crate::media::cowfile::{self, Opened};
use crate::media::text;

/// What FAT has no longer files than.
pub(super) const FAT_BYTES: u64 = (4 << 30) - 1;

/// Make the image `name`: under `name.part` until it is whole. Neither base nor cowfile are changed.
///
/// # Errors
/// What stands in the way, or what came of it halfway; the same again goes on.
pub fn output(
    cow: &Path,
    base: &Path,
    name: &Path,
    (wishes, is_tried): (&Wishes<'_>, bool),
    progress: &mut Progress<'_>,
) -> anyhow::Result<Report> {
    let doing = || {
        format!(
            "merging '{}' into new image '{}'",
            cow.display(),
            name.display()
        )
    };
    if std::fs::symlink_metadata(name).is_ok() {
        bail!(
            "{}: there is something of that name already, which is left as it is",
            doing()
        );
    }
    let base = Base::open(base).with_context(doing)?;
    let mut opened = cowfile::open(cow, Mode::Read, Some(&base)).with_context(doing)?;
    let top = match wishes.up_to {
        Some(_) => top_of(&opened, wishes.up_to).with_context(doing)?,
        None => opened.found.superblock.active_layer,
    };
    if is_mixed(&opened.found.superblock, top) {
        bail!(
            "{}: that session is below one that is merged into the base, which has other content by now",
            doing()
        );
    }
    let how = How {
        top,
        batch_chunks: BATCH_CHUNKS,
        zeros: ZEROS,
    };
    let superblock = &opened.found.superblock;
    let about = u64::from(superblock.high_water) * CHUNK_BYTES;
    let after = base.size_bytes().max(superblock.device_bytes);
    let mut done = 0;
    let totals = merge::scrub(&mut opened.files, &opened.found, how, &mut |chunks| {
        done += chunks * CHUNK_BYTES;
        progress(Phase::Checking, done.min(about), about);
    });
    let totals = totals
        .map_err(|stopped| words::stopped(stopped, [None, None]))
        .with_context(doing)?;
    let report = Report {
        sessions: stack_names(&opened, top),
        totals,
        base_bytes: (base.size_bytes(), after),
        is_resumed: part_of(name).exists(),
        is_partial: top != superblock.active_layer,
    };
    if !is_tried {
        make(&mut opened, &base, name, (how, &report), progress).with_context(doing)?;
    }
    Ok(report)
}

fn make(
    opened: &mut Opened,
    base: &Base,
    name: &Path,
    (how, report): (How, &Report),
    progress: &mut Progress<'_>,
) -> anyhow::Result<()> {
    let (part, totals) = (part_of(name), report.totals);
    let is_resumed = report.is_resumed;
    let opening = || format!("opening '{}'", part.display());
    let mut image = NewImage {
        part: Target::own(&part, !is_resumed).with_context(opening)?,
        name,
        original: Some(base.file()),
    };
    if let Err(error) = require_room(&image.part, base, report) {
        if !is_resumed {
            remove(&part)?;
        }
        return Err(error);
    }
    let total = base.size_bytes() + (totals.data_chunks + totals.zero_chunks) * CHUNK_BYTES;
    let mut source = Original(base.file(), base.size_bytes());
    let mut done = 0;
    let made = engine::run(
        &mut opened.files,
        &opened.found,
        (&mut source, &mut image),
        (how, is_resumed),
        &mut |chunks| {
            done += chunks * CHUNK_BYTES;
            progress(Phase::Copying, done.min(total), total);
        },
    );
    made.map_err(|stopped| words::stopped(stopped, [Some(&mut image.part), None]))
}

fn part_of(name: &Path) -> PathBuf {
    let mut part = name.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

/// Enough is left for all of it; blocks that are shared take none, so that is tried before.
fn require_room(part: &Target, base: &Base, report: &Report) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let (_, after) = report.base_bytes;
    if part.is_on_fat() && after > FAT_BYTES {
        bail!(
            "it would have {}, and FAT has no files of 4 GiB; make it on another file system",
            text::size(after)
        );
    }
    let taken = base
        .file()
        .metadata()
        .map_or(u64::MAX, |it| match it.is_file() {
            true => it.blocks() * 512,
            false => base.size_bytes(),
        });
    let needed = taken
        .min(base.size_bytes())
        .saturating_add(report.data_bytes())
        .min(after)
        .saturating_sub(part.taken_bytes());
    let room = part.room_bytes()?;
    // What is there already may be replaced; sharing blocks is known only when it was done.
    if room < needed && !part.shares_with(base.file()) {
        bail!(
            "it takes {}, and its file system has {} left; make room, or name another place",
            text::size(needed),
            text::size(room)
        );
    }
    Ok(())
}
