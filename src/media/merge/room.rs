//! Whether what a merge writes has room where it is written.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use nix::sys::statfs::{MSDOS_SUPER_MAGIC, statfs};

use super::Report;
use crate::disk::base::Base;
use crate::disk::growth::EXFAT_SUPER_MAGIC;
use crate::disk::target::{Target, folder};
use crate::engine::units::CHUNK_BYTES;
use crate::media::{namespace, text};
use crate::sys;

/// What FAT has no longer files than.
const FAT_BYTES: u64 = (4 << 30) - 1;

/// What the file system of a file has left.
struct Room {
    left_bytes: u64,
    is_fat: bool,
    /// A file takes what it is long.
    has_no_holes: bool,
}

impl Room {
    /// Where a file is, or is to be.
    fn at(path: &Path) -> anyhow::Result<Self> {
        let stat = match statfs(path) {
            Err(nix::errno::Errno::ENOENT) => statfs(folder(path)),
            found => found,
        };
        let stat = stat.with_context(|| format!("looking for room for '{}'", path.display()))?;
        let block_bytes = u64::try_from(stat.block_size()).unwrap_or(0);
        let kind = stat.filesystem_type();
        Ok(Self {
            left_bytes: match stat.blocks() {
                // It does not tell.
                0 => u64::MAX,
                _ => stat.blocks_available().saturating_mul(block_bytes),
            },
            is_fat: kind == MSDOS_SUPER_MAGIC,
            has_no_holes: [MSDOS_SUPER_MAGIC, EXFAT_SUPER_MAGIC].contains(&kind),
        })
    }

    /// A file may come to have `file_bytes`, and to take `more_bytes` more. If not: what to do.
    fn require(&self, file_bytes: u64, more_bytes: u64, instead: &str) -> anyhow::Result<()> {
        if self.is_fat && file_bytes > FAT_BYTES {
            bail!(
                "it may come to {}, and FAT has no files of 4 GiB; {instead}",
                text::size(file_bytes)
            );
        }
        if self.left_bytes < more_bytes {
            bail!(
                "it may take {}, and its file system has {} left; make room there, or {instead}",
                text::size(more_bytes),
                text::size(self.left_bytes)
            );
        }
        Ok(())
    }
}

/// The base may take more than it does.
pub(super) fn for_base(base: &Target, path: &Path, report: &Report) -> anyhow::Result<()> {
    if base.is_device() {
        return Ok(());
    }
    let room = Room::at(path)?;
    let (before, after) = report.base_bytes;
    let (holes, growth) = (before.saturating_sub(base.taken_bytes()), after - before);
    // At worst all that is written goes where the base has holes now. Of what was begun nobody knows how much is left;
    // it may be stopped by a full file system, and goes on.
    let more_bytes = match (room.has_no_holes, report.is_resumed) {
        (true, _) => growth,
        (false, false) => report.data_bytes().min(holes + growth),
        (false, true) => 0,
    };
    let file_bytes = if growth > 0 { after } else { 0 };
    room.require(
        file_bytes,
        more_bytes,
        "make a new image on another file system with --output",
    )
}

/// An undo log keeps what the base has where the session has something, and a little to say so.
pub(super) fn for_log(log: &Path, base: &Target, report: &Report) -> anyhow::Result<()> {
    let taken = match base.is_device() {
        true => u64::MAX,
        false => base.taken_bytes(),
    };
    let chunks = report.totals.data_chunks + report.totals.zero_chunks;
    let most_bytes = taken.min(chunks * CHUNK_BYTES);
    if namespace::is_ram(folder(log)) {
        log::warn!(
            "undo log '{}' is in RAM: it is gone with the power, and then nothing can be taken back",
            log.display()
        );
    }
    let most_bytes = most_bytes + most_bytes / 100;
    Room::at(log)?.require(most_bytes, most_bytes, "keep it on another file system")
}

/// A new image has what base and session have. What there is of it already is not counted; nor is the base, where its
/// blocks can be shared.
pub(super) fn for_image(part: &Path, base: &Base, report: &Report) -> anyhow::Result<()> {
    let base_bytes = base.size_bytes();
    let taken = base
        .file()
        .metadata()
        .map_or(base_bytes, |it| match it.is_file() {
            true => base_bytes.min(it.blocks() * 512),
            false => base_bytes,
        });
    let (_, after) = report.base_bytes;
    let most_bytes = taken.saturating_add(report.data_bytes()).min(after);
    let (room, instead) = (Room::at(part)?, "make it on another file system");
    let most_bytes = if room.has_no_holes { after } else { most_bytes };
    let there = part.metadata().map(|it| it.blocks() * 512);
    let more_bytes = most_bytes.saturating_sub(there.as_ref().copied().unwrap_or(0));
    match room.require(after, more_bytes, instead) {
        Err(_) if there.is_err() && can_share(base, folder(part)) => {
            room.require(after, report.data_bytes(), instead)
        }
        found => found,
    }
}

/// Whether a file in this folder can have a base's blocks without copying: a file without a name has them, and is gone.
fn can_share(base: &Base, folder: &Path) -> bool {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_TMPFILE);
    match options.open(folder) {
        Ok(file) => sys::share_blocks(base.file(), &file).is_ok(),
        // None without a name there. The merge itself will see.
        Err(error) => error.raw_os_error() == Some(libc::EOPNOTSUPP),
    }
}
