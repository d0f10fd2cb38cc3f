//! A persistent cowfile, opened for its base: every way in which it may not be the right one is told.

use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail};

use super::probe::probe;
use super::text::ReadAt;
use crate::disk::base::Base;
use crate::disk::cowfile::{CowFiles, Mode};
use crate::disk::filesystem;
use crate::engine::cowfile::recover::{Recovered, recover};
use crate::engine::cowfile::trouble::Trouble;
use crate::engine::format::Shape;
use crate::engine::format::check::Access;
use crate::engine::format::description::{Description, Identity};
use crate::engine::format::page::MAGIC;
use crate::engine::format::superblock::{self, DESCRIPTION_VERSION};
use crate::engine::identity::{chunks_to_sample, compare, sample};
use crate::engine::units::{CHUNK_BYTES, CHUNK_LEN};

/// A cowfile that may be used.
#[derive(Debug)]
pub struct Opened {
    /// Its files, locked.
    pub files: CowFiles,
    /// What is in it.
    pub found: Recovered,
    /// What people know of it.
    pub description: Description,
}

/// Open the cowfile at `path`; with `base`, only if it was made for that one.
///
/// # Errors
/// It cannot be opened, is in use, is none, is damaged or cut off, wants a newer cowroot, or another base.
/// Nothing was written then.
pub fn open(path: &Path, mode: Mode, base: Option<&Base>) -> anyhow::Result<Opened> {
    let opening = || format!("opening cowfile '{}'", path.display());
    let mut files = CowFiles::open(path, mode).with_context(opening)?;
    let mut found = recover(&mut files, Shape::PRODUCT, None).map_err(|trouble| {
        // A tail that does not read, or is not there, is what FAT makes of a cut growth, too.
        let advice = match trouble {
            Trouble::Unreadable { .. } | Trouble::Truncated { .. } => {
                format!("; {}", filesystem::advice(path))
            }
            _ => String::new(),
        };
        anyhow::anyhow!("{}: {trouble}{advice}", opening())
    })?;
    if mode == Mode::Read && found.access == Access::ReadWrite {
        found.access = Access::ReadOnly(Vec::new());
    }
    let superblock = &found.superblock;
    let description = Description::decode(DESCRIPTION_VERSION, &superblock.description)
        .map_err(|fault| anyhow::anyhow!("{}: {fault}", opening()))?;
    if let (Mode::Write, Access::ReadOnly(features)) = (mode, &found.access) {
        bail!(
            "{}: a newer cowroot has to write it, for it uses {}; attach it read-only, or use that version",
            opening(),
            features.join(", ")
        );
    }
    if let Some(base) = base {
        let there = identify(base, superblock.origin.store)?;
        if let Err(difference) = compare(&description.base, &there, None) {
            bail!(
                "{}: made for another base than '{}': {difference}; use the base it was made for (boot the old medium), \
                 start a new session with a new cowfile, or carry the files over with `cowroot diff --tar`",
                opening(),
                base.path().display()
            );
        }
    }
    Ok(Opened {
        files,
        found,
        description,
    })
}

/// Whether a cowfile was made in `bytes`, sound or not: one of its superblocks begins like one.
#[must_use]
pub fn is_one(bytes: &dyn ReadAt) -> bool {
    /// Behind a page's checksum.
    const MAGIC_AT: u64 = 4;
    let places = superblock::slots(Shape::PRODUCT).map(|slot| Shape::PRODUCT.offset_bytes(slot));
    places
        .iter()
        .any(|place| bytes.bytes(place + MAGIC_AT) == Some(MAGIC))
}

/// What a cowfile with this UUID remembers of its base.
///
/// # Errors
/// The base does not read.
pub fn identify(base: &Base, store: [u8; 16]) -> anyhow::Result<Identity> {
    let names = probe(base.file());
    let (label, uuid) = names.map_or((None, None), |content| (content.label, content.uuid));
    let mut samples = Vec::new();
    for chunk in chunks_to_sample(store, base.size_bytes()) {
        let start = chunk * CHUNK_BYTES;
        let mut bytes = vec![0; CHUNK_LEN];
        let left = base.size_bytes() - start;
        bytes.truncate(usize::try_from(left).unwrap_or(CHUNK_LEN));
        base.file()
            .read_exact_at(&mut bytes, start)
            .with_context(|| {
                format!(
                    "reading base '{}' at byte {start}, to know it again",
                    base.path().display()
                )
            })?;
        samples.push(sample(chunk, &bytes));
    }
    Ok(Identity {
        size_bytes: base.size_bytes(),
        uuid,
        label,
        samples,
        full: None,
    })
}

#[cfg(test)]
#[path = "cowfile_tests.rs"]
mod tests;
