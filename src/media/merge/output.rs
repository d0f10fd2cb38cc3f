//! A new image of a base with its session in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::{
    BATCH_CHUNKS, Phase, Progress, Report, Wishes, room, scrub, stack_names, top_of, words,
};
use crate::disk::base::Base;
use crate::disk::cowfile::Mode;
use crate::disk::image::{NewImage, Original};
use crate::disk::target::Target;
use crate::engine::cowfile::layers::kept::is_mixed;
use crate::engine::merge::{How, ZEROS, output as engine};
use crate::engine::units::CHUNK_BYTES;
use crate::media::cowfile::{self, Opened};

/// What a new image's name has behind it until it is whole: what nobody else calls a file.
const PART: &str = ".cowroot-part";

/// Make the image `name`: under another name beside it until it is whole. Neither base nor cowfile are changed.
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
    if name.symlink_metadata().is_ok() {
        bail!(
            "{}: there is something of that name already, which is left as it is",
            doing()
        );
    }
    let part = part_of(name);
    let there = part.symlink_metadata();
    if there.as_ref().is_ok_and(|it| !it.is_file()) {
        bail!(
            "{}: '{}' is not a file that was begun; move it away",
            doing(),
            part.display()
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
    let after = base.size_bytes().max(superblock.device_bytes);
    let totals = scrub(&mut opened.files, &opened.found, top, progress)
        .map_err(|stopped| words::stopped(stopped, [None, None]))
        .with_context(doing)?;
    let report = Report {
        sessions: stack_names(&opened, top),
        totals,
        base_bytes: (base.size_bytes(), after),
        is_resumed: there.is_ok(),
        is_partial: top != superblock.active_layer,
        frees: false,
    };
    room::for_image(&part, &base, &report).with_context(doing)?;
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
    let opened_part = match is_resumed {
        true => Target::surely_own(&part),
        false => Target::new_own(&part, base.file()),
    };
    let mut image = NewImage {
        part: opened_part.with_context(opening)?,
        name,
        original: Some(base.file()),
    };
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
    made.map_err(|stopped| words::not_made(stopped, &mut image.part))
}

fn part_of(name: &Path) -> PathBuf {
    let mut part = name.as_os_str().to_owned();
    part.push(PART);
    part.into()
}
