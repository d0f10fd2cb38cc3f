//! A persistent cowfile, opened for its base: every way in which it may not be the right one is told.

use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail};

use super::probe::probe;
use super::text::ReadAt;
use crate::disk::base::Base;
use crate::disk::cowfile::{CowFiles, Mode};
use crate::disk::filesystem;
use crate::disk::growth::Growth;
use crate::engine::cowfile::recover::{Recovered, recover};
use crate::engine::cowfile::trouble::Trouble;
use crate::engine::format::Shape;
use crate::engine::format::check::Access;
use crate::engine::format::description::{Description, Identity, Sample};
use crate::engine::format::page::MAGIC;
use crate::engine::format::superblock::{self, DESCRIPTION_VERSION, MergeState};
use crate::engine::identity::{chunks_to_sample, compare, sample};
use crate::engine::merge::covered;
use crate::engine::merge::settle::{self, NotSettled};
use crate::engine::units::{CHUNK_BYTES, CHUNK_LEN};
use crate::sys;

/// Slots that a cowfile grows by, if closing it takes that.
const GROW_SLOTS: u32 = 4 << 10;

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
    let mut opened = Opened {
        files,
        found,
        description,
    };
    if let Some(base) = base {
        opened.require_base(base).with_context(opening)?;
    }
    Ok(opened)
}

impl Opened {
    /// Whether a base is the one that this cowfile was made for. While a merge is under way what the merged layers
    /// cover may be old or new, and the size as well.
    ///
    /// # Errors
    /// It is another one, or cannot be read.
    pub fn require_base(&mut self, base: &Base) -> anyhow::Result<()> {
        let superblock = &self.found.superblock;
        let wanted = &self.description.base;
        let is_merging = superblock.merge.state == MergeState::UnderWay;
        // FAT grows a file bit by bit.
        let sizes = wanted.size_bytes..=superblock.device_bytes;
        let is_grown = is_merging && sizes.contains(&base.size_bytes());
        let size_bytes = match is_grown {
            true => wanted.size_bytes,
            false => base.size_bytes(),
        };
        let store = superblock.origin.store;
        let there = match is_merging {
            true => identify_what_reads(base, store, size_bytes),
            false => identify(base, store)?,
        };
        let covered = match is_merging {
            true => {
                let chunks: Vec<u64> = wanted.samples.iter().map(|sample| sample.chunk).collect();
                covered(&mut self.files, &self.found, &chunks)?
            }
            false => Vec::new(),
        };
        let is_covered = |chunk: u64| covered.contains(&chunk);
        let covers: Option<&dyn Fn(u64) -> bool> = is_merging.then_some(&is_covered);
        compare(wanted, &there, covers).map_err(|difference| {
            anyhow::anyhow!(
                "made for another base than '{}': {difference}; use the base it was made for (boot the old medium), start \
                 a new session with a new cowfile, or carry the files over with `cowroot diff --tar`",
                base.path().display()
            )
        })
    }

    /// Close one that was left in the middle: its journal is folded in, so that its superblocks alone can be changed.
    ///
    /// # Errors
    /// Its medium takes no writes, or it is full; it reads as before.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        let grow_slots = match self.files.growth() {
            Growth::WholeFiles => self.found.superblock.file_slots,
            Growth::InPlace | Growth::Never => GROW_SLOTS,
        };
        match self.settle_growing(grow_slots)? {
            true => Ok(()),
            false => bail!("closing the cowfile, which was in use when it was left: it is full"),
        }
    }

    /// The same in the room it has: growing a file can take a minute on a stick. Whether there was enough.
    ///
    /// # Errors
    /// Its medium takes no writes; it reads as before.
    pub fn settle_in_place(&mut self) -> anyhow::Result<bool> {
        self.settle_growing(0)
    }

    fn settle_growing(&mut self, grow_slots: u32) -> anyhow::Result<bool> {
        let random =
            u64::from_le_bytes(sys::random().context("asking the kernel for a random number")?);
        let found = self.found.clone();
        let settled = settle::settle(&mut self.files, found, grow_slots, random);
        match settled {
            Ok(_) | Err(NotSettled::Full) => {
                self.look_again()?;
                Ok(settled.is_ok())
            }
            Err(NotSettled::Unreadable(trouble)) => {
                Err(anyhow::anyhow!("closing the cowfile: {trouble}"))
            }
            Err(NotSettled::Failed(_)) => bail!(
                "closing the cowfile, which was in use when it was left: its medium does not take writes, or is full"
            ),
        }
    }

    /// Look again, after its superblocks were written.
    ///
    /// # Errors
    /// It does not open any more.
    pub fn look_again(&mut self) -> anyhow::Result<()> {
        self.found = recover(&mut self.files, Shape::PRODUCT, None)?;
        let bytes = &self.found.superblock.description;
        let description = Description::decode(DESCRIPTION_VERSION, bytes);
        self.description = description.map_err(|fault| anyhow::anyhow!("{fault}"))?;
        Ok(())
    }
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
    let size_bytes = base.size_bytes();
    let samples: anyhow::Result<_> = samples(base, store, size_bytes).collect();
    Ok(identity(base, size_bytes, samples?))
}

/// The same of its beginning, as if it were no longer than that, which it is, or of all of it. Without the samples that
/// do not read: in a base that is being merged into a cut may have left them, and what covers them may be there.
#[must_use]
pub fn identify_what_reads(base: &Base, store: [u8; 16], size_bytes: u64) -> Identity {
    let samples = samples(base, store, size_bytes).flatten().collect();
    identity(base, size_bytes, samples)
}

fn identity(base: &Base, size_bytes: u64, samples: Vec<Sample>) -> Identity {
    let names = probe(base.file());
    let (label, uuid) = names.map_or((None, None), |content| (content.label, content.uuid));
    Identity {
        size_bytes,
        uuid,
        label,
        samples,
        full: None,
    }
}

fn samples(
    base: &Base,
    store: [u8; 16],
    size_bytes: u64,
) -> impl Iterator<Item = anyhow::Result<Sample>> {
    chunks_to_sample(store, size_bytes)
        .into_iter()
        .map(move |chunk| {
            let start = chunk * CHUNK_BYTES;
            let mut bytes = vec![0; CHUNK_LEN];
            let left = size_bytes - start;
            bytes.truncate(usize::try_from(left).unwrap_or(CHUNK_LEN));
            let read = base.file().read_exact_at(&mut bytes, start);
            read.with_context(|| {
                format!(
                    "reading base '{}' at byte {start}, to know it again",
                    base.path().display()
                )
            })?;
            Ok(sample(chunk, &bytes))
        })
}

#[cfg(test)]
#[path = "cowfile_tests.rs"]
mod tests;
