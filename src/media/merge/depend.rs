//! Other cowfiles that stand on the same base: those beside it, and beside the one that is merged.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::disk::base::Base;
use crate::engine::format::Shape;
use crate::engine::format::check::{Found, look};
use crate::engine::format::description::Description;
use crate::engine::format::superblock::{
    self, DESCRIPTION_VERSION, HEAD_LEN, Superblock, description_bytes,
};
use crate::engine::identity::compare;
use crate::media::cowfile::identify;

/// Files that are looked at in one folder.
const MOST_FILES: usize = 10_000;

/// No other cowfile that can be known of wants this base as it is.
pub(super) fn require_none(cow: &Path, path: &Path, base: &Base) -> anyhow::Result<()> {
    let own = std::fs::metadata(cow).ok().map(|it| (it.dev(), it.ino()));
    let is_own = |file: &Path, _: &Superblock| {
        std::fs::metadata(file).is_ok_and(|it| Some((it.dev(), it.ino())) == own)
    };
    let others = dependants([cow, path], base, is_own)?;
    match others.is_empty() {
        true => Ok(()),
        false => bail!(
            "other cowfiles depend on this base as it is: {}; --output makes a new image and leaves it to them, or \
             delete them first",
            others.join(", ")
        ),
    }
}

/// None does that is not the one that was merged, by its id: that one is asked about itself.
pub(super) fn require_none_after_undo(
    store: [u8; 16],
    places: [&Path; 2],
    base: &Base,
) -> anyhow::Result<()> {
    let others = dependants(places, base, |_, superblock| {
        superblock.origin.store == store
    })?;
    match others.is_empty() {
        true => Ok(()),
        false => bail!(
            "other cowfiles depend on the merged base: {}; merge them into it first, or if they may be lost, delete them",
            others.join(", ")
        ),
    }
}

/// The cowfiles beside these that want this base as it is.
fn dependants(
    places: [&Path; 2],
    base: &Base,
    is_own: impl Fn(&Path, &Superblock) -> bool,
) -> anyhow::Result<Vec<String>> {
    let mut others = Vec::new();
    for file in beside(places) {
        let Some(superblock) = newest(&file).filter(|found| !is_own(&file, found)) else {
            continue;
        };
        let about = Description::decode(DESCRIPTION_VERSION, &superblock.description);
        let Ok(about) = about else { continue };
        // Cheap things first: most others are for other bases.
        if about.base.size_bytes == base.size_bytes()
            && compare(&about.base, &identify(base, superblock.origin.store)?, None).is_ok()
        {
            others.push(format!("'{}'", file.display()));
        }
    }
    Ok(others)
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
