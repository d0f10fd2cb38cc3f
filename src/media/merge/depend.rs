//! Other cowfiles that stand on the same base: those beside it, and beside the one that is merged.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::disk::base::Base;
use crate::engine::format::Shape;
use crate::engine::format::check::{Found, look};
use crate::engine::format::description::{Description, Identity};
use crate::engine::format::superblock::{
    self, DESCRIPTION_VERSION, HEAD_LEN, Superblock, description_bytes,
};
use crate::engine::identity::compare;
use crate::media::cowfile::identify_what_reads;

/// Files that are looked at in one folder.
const MOST_FILES: usize = 10_000;

/// No other cowfile that can be known of wants this base as it is.
pub(super) fn require_none(cow: &Path, path: &Path, base: &Base) -> anyhow::Result<()> {
    none(
        &dependants([cow, path], base, is(cow)),
        "this base as it is",
        "--output makes a new image and leaves it to them, or delete them first",
    )
}

/// No other than the one that was merged wants the base that a merge made: `cow`, or where that is left out whichever has
/// its id, wherever it is by now.
pub(super) fn require_none_after_undo(
    cow: &Path,
    left_out: Option<[u8; 16]>,
    path: &Path,
    base: &Base,
) -> anyhow::Result<()> {
    let is_own = is(cow);
    let is_own = |file: &Path, superblock: &Superblock| match left_out {
        Some(store) => superblock.origin.store == store,
        None => is_own(file, superblock),
    };
    none(
        &dependants([cow, path], base, is_own),
        "the merged base",
        "make a new image of each (cowroot merge COWFILE --base BASE --output NEW), or if they may be lost, delete them",
    )
}

/// The file that this path is.
fn is(path: &Path) -> impl Fn(&Path, &Superblock) -> bool {
    let place = |path: &Path| std::fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    let own = place(path);
    move |file, _| own.is_some() && place(file) == own
}

fn none(others: &[String], what: &str, instead: &str) -> anyhow::Result<()> {
    match others.is_empty() {
        true => Ok(()),
        false => bail!(
            "other cowfiles depend on {what}: {}; {instead}",
            others.join(", ")
        ),
    }
}

/// The cowfiles beside these that want this base as it is.
fn dependants(
    places: [&Path; 2],
    base: &Base,
    is_own: impl Fn(&Path, &Superblock) -> bool,
) -> Vec<String> {
    let mut others = Vec::new();
    for file in beside(places) {
        let Some(superblock) = newest(&file).filter(|found| !is_own(&file, found)) else {
            continue;
        };
        let about = Description::decode(DESCRIPTION_VERSION, &superblock.description);
        let Ok(about) = about else { continue };
        // Cheap things first: most others are for other bases.
        if about.base.size_bytes == base.size_bytes() && wants(&about.base, base, &superblock) {
            others.push(format!("'{}'", file.display()));
        }
    }
    others
}

/// Whether it is this base, as far as that reads: who may depend on it is not passed over for a bad sector.
fn wants(wanted: &Identity, base: &Base, superblock: &Superblock) -> bool {
    let there = identify_what_reads(base, superblock.origin.store, base.size_bytes());
    let is_unread = |chunk: u64| there.samples.iter().all(|sample| sample.chunk != chunk);
    let unread: Option<&dyn Fn(u64) -> bool> = match there.samples.len() < wanted.samples.len() {
        true => Some(&is_unread),
        false => None,
    };
    compare(wanted, &there, unread).is_ok()
}

/// The files in the folders of these.
fn beside(paths: [&Path; 2]) -> BTreeSet<PathBuf> {
    let folders = paths.iter().filter_map(|path| {
        let path = path.canonicalize().ok()?;
        path.parent().map(Path::to_owned)
    });
    let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok());
    let files = files.flat_map(|entries| entries.flatten().take(MOST_FILES));
    files
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.path())
        .collect()
}

/// The newest superblock of a cowfile, without its lock: it may be in use.
fn newest(path: &Path) -> Option<Superblock> {
    let file = File::open(path).ok()?;
    let shape = Shape::PRODUCT;
    let found = superblock::slots(shape).into_iter().filter_map(|slot| {
        let at = shape.offset_bytes(slot);
        let mut bytes = vec![0; HEAD_LEN];
        file.read_exact_at(&mut bytes, at).ok()?;
        let most = usize::try_from(shape.offset_bytes(shape.zone_slots)).ok()?;
        bytes.resize((HEAD_LEN + description_bytes(&bytes)?).min(most), 0);
        file.read_exact_at(&mut bytes, at).ok()?;
        match look(&bytes, slot) {
            Found::Superblock(found) => Some(*found),
            _ => None,
        }
    });
    found.max_by_key(|superblock| superblock.generation)
}
