//! How a cowfile grows, so that a commit never changes a file's size or allocation.
//!
//! A cut while a file grows can leave its tail unreadable and its file system read-only (FAT), or the whole file
//! unopenable (exFAT): there no file changes its size any more once something in it is used, and a cowfile grows by
//! whole files. Where a journal keeps size and allocation together a file grows in place. Either way zeros are
//! written and synced before a commit may name a slot: blocks that were written before are written in place, with
//! no metadata of the file system in the commit.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::sys::statfs::{FsType, MSDOS_SUPER_MAGIC, fstatfs};

use super::cowfile::CowFiles;
use super::sibling::{is_of, read_some};
use crate::engine::format::Shape;
use crate::engine::format::page::{self, Origin};
use crate::engine::units::{CHUNK_BYTES, CHUNK_LEN};
use crate::sys;

/// Zeros written at a time.
const ZEROS: usize = 1 << 20;
/// Bytes written between two syncs: what a growth keeps in the page cache, and other syncs wait for, at most.
const STEP_BYTES: u64 = 16 << 20;

/// Slots of a file at least, and at most, where a cowfile grows by whole files: 64 MiB, and a zone less than 4 GiB.
const SHORTEST_FILE: u32 = 16 << 10;
const LONGEST_FILE: u32 = (1 << 20) - Shape::PRODUCT.zone_slots;
/// About as many files make the largest cowfile.
const FILES: u32 = 64;

/// Of <linux/magic.h>; its type has other widths and signs elsewhere.
pub const EXFAT_SUPER_MAGIC: FsType = FsType(0x2011_bab0_u32 as _);
const BTRFS_SUPER_MAGIC: FsType = FsType(0x9123_683e_u32 as _);

/// What a file is called after each stretch that was written: it is to be synced. And how far the cowfile is
/// written then, in bytes.
pub type Written<'a> = dyn FnMut(&File, u64) -> io::Result<()> + 'a;

/// How a cowfile grows where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// A block device: all of it is there.
    Never,
    /// Its last file becomes longer, and where `file_slots` ends it goes on in another.
    InPlace,
    /// By whole files.
    WholeFiles,
}

impl Growth {
    /// How a cowfile with this first file grows.
    pub(super) fn of(file: &File, is_device: bool) -> Self {
        let kind = fstatfs(file).map(|found| found.filesystem_type());
        match kind {
            _ if is_device => Self::Never,
            Ok(MSDOS_SUPER_MAGIC | EXFAT_SUPER_MAGIC) => Self::WholeFiles,
            _ => Self::InPlace,
        }
    }

    /// Slots of each file of a new cowfile that may have `max_slots`.
    #[must_use]
    pub fn file_slots(self, max_slots: u32) -> u32 {
        let zones = |slots: u32| slots.next_multiple_of(Shape::PRODUCT.zone_slots);
        match self {
            Self::Never | Self::InPlace => max_slots.max(Shape::PRODUCT.first_slot()),
            Self::WholeFiles => zones(max_slots / FILES).clamp(SHORTEST_FILE, LONGEST_FILE),
        }
    }
}

/// Keep a new file's blocks where they are, for a file system that would write each change elsewhere.
pub(super) fn keep_in_place(file: &File) -> io::Result<()> {
    match fstatfs(file)?.filesystem_type() {
        BTRFS_SUPER_MAGIC => sys::set_no_copy_on_write(file),
        _ => Ok(()),
    }
}

impl CowFiles {
    /// Let slots `from..to` exist: zeros, in as many files as it takes, each sibling with its header. `written` is
    /// called for each stretch, and has to make it durable. A file that is there already and is not known to be
    /// this cowfile's is not touched.
    ///
    /// # Errors
    /// The medium's; `ENOSPC` also where a file in use would have to become longer and must not. What exists then
    /// is at least what existed before.
    pub fn grow(
        &mut self,
        from: u32,
        to: u32,
        origin: Origin,
        written: &mut Written<'_>,
    ) -> io::Result<()> {
        let file_slots = self.file_slots();
        let mut slot = from;
        while slot < to {
            let (number, within) = (slot / file_slots, slot % file_slots);
            let end = to.min(slot.saturating_add(file_slots - within));
            let mut start = within;
            if within == 0 && number > 0 {
                self.begin_file(number, end - slot, origin, written)?;
                start = 1;
            }
            let first_byte = bytes(slot - within);
            let file = self.file(number)?;
            if self.growth() == Growth::WholeFiles
                && within > 0
                && self.file_len(file) < bytes(within + (end - slot))
            {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            let part = bytes(start)..bytes(within + (end - slot));
            write_zeros(file, part, &mut |file, at| written(file, first_byte + at))?;
            slot = end;
        }
        self.sync_folder()
    }

    /// Take back what `create` and `grow` have made, where no cowfile came of it. On a device that is nothing.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn take_back(self) -> io::Result<()> {
        let Some(folder) = self.folder() else {
            return Ok(());
        };
        let numbers = 0..u32::try_from(self.files().len()).unwrap_or(0);
        numbers.rev().try_for_each(|number| folder.remove(number))?;
        folder.sync()
    }

    fn file(&self, number: u32) -> io::Result<&File> {
        let file = self.files().get(number as usize);
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Begin a sibling with its header. That is durable, with its name, before anything else is in it: so a file
    /// that is longer and has no header is not ours.
    fn begin_file(
        &mut self,
        number: u32,
        slots: u32,
        origin: Origin,
        written: &mut Written<'_>,
    ) -> io::Result<()> {
        let slot = number * self.file_slots();
        self.add_sibling(number, slots, origin)?;
        let file = self.file(number)?;
        file.write_all_at(&page::sibling(origin, number, slot, CHUNK_LEN), 0)?;
        written(file, bytes(slot + 1))?;
        self.sync_folder()
    }

    /// Open a sibling that is to be grown from its beginning, or make it. What is in it is not used.
    fn add_sibling(&mut self, number: u32, slots: u32, origin: Origin) -> io::Result<()> {
        let folder = self.folder().ok_or(io::ErrorKind::Unsupported)?;
        let opened = folder.open_or_create(number);
        let mut file = opened.map_err(|error| unopened(&folder.name(number), error))?;
        let mut page = vec![0; CHUNK_LEN];
        let is_blank = read_some(&file, &mut page)?.iter().all(|byte| *byte == 0);
        // One that was being grown when the power went has its header, or is no longer than that.
        let is_begun = is_blank && self.file_len(&file) <= CHUNK_BYTES;
        if !file.metadata()?.is_file() || !is_begun && !is_of(&page, origin.store, number) {
            let name = folder.name(number);
            let what = format!("'{}' is there, and not this cowfile's", name.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        if self.growth() == Growth::WholeFiles {
            // Its size and its blocks may not agree: FAT would stumble over that.
            folder.remove(number)?;
            file = folder.open_or_create(number)?;
            let there = fstatfs(&file)?;
            let free = there.blocks_available() * u64::try_from(there.block_size()).unwrap_or(0);
            if free < bytes(slots) {
                folder.remove(number)?;
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
        }
        keep_in_place(&file)?;
        self.put_file(number, file);
        Ok(())
    }
}

/// A sibling that is not opened. exFAT gives an error for one that was being grown when the power went.
fn unopened(name: &OsStr, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EIO) => io::Error::other(format!(
            "opening '{}': {error}; unmount its file system and have it checked (fsck) so that the cowfile can grow",
            name.display()
        )),
        _ => error,
    }
}

/// Write zeros, and have them synced now and then and at the end.
fn write_zeros(
    file: &File,
    part: std::ops::Range<u64>,
    written: &mut Written<'_>,
) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    let (mut at, mut synced) = (part.start, part.start);
    while at < part.end {
        let len = usize::try_from(part.end - at).map_or(ZEROS, |left| left.min(ZEROS));
        file.write_all_at(zeros.get(..len).unwrap_or_default(), at)?;
        at += len as u64;
        if at - synced >= STEP_BYTES && at < part.end {
            written(file, at)?;
            synced = at;
        }
    }
    written(file, at)
}

fn bytes(slots: u32) -> u64 {
    u64::from(slots) * CHUNK_BYTES
}
