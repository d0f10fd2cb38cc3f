//! A persistent cowfile on a medium: a block device, or a file and the numbered siblings behind it.
//!
//! `NAME` holds the first slots, `NAME.1` the next, and so on: FAT has no files of 4 GiB. All have the same
//! size but the last. Whoever opens a cowfile locks its first file, and so all of it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

use super::filesystem::{advice, is_meant_as_device};
use super::folder::Folder;
use super::growth::{Growth, keep_in_place};
use super::lock::locked;
use super::sibling::{is_of, may_have_been_of, read_some};
use crate::disk::{cache, failure, uninterrupted};
use crate::engine::command::Failure;
use crate::engine::cowfile::create::MediumMut;
use crate::engine::cowfile::recover::Medium;
use crate::engine::cowfile::trouble::Trouble;
use crate::engine::format::page::Origin;
use crate::engine::format::superblock::Superblock;
use crate::engine::units::{CHUNK_BYTES, CHUNK_LEN};
use crate::sys;

/// What is to be done with a cowfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is changed; others may look at it too.
    Read,
    /// Nobody else may have it open.
    Write,
}

/// The files of a cowfile, locked.
#[derive(Debug)]
pub struct CowFiles {
    mode: Mode,
    /// Holds the lock; the first of `files` is the same once more.
    _lock: Flock<File>,
    files: Vec<File>,
    /// Slots of each file but the last.
    file_slots: u32,
    is_device: bool,
    /// Where its siblings are; a device has none.
    folder: Option<Folder>,
    growth: Growth,
    any_header: bool,
}

impl CowFiles {
    /// Open the first file, and lock it. The others are opened when a superblock has said how large each is.
    ///
    /// # Errors
    /// It cannot be opened, is neither a file nor a block device, or somebody else has it open.
    pub fn open(path: &Path, mode: Mode) -> anyhow::Result<Self> {
        let kind = std::fs::metadata(path)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            bail!("neither a regular file nor a block device");
        }
        // Nobody mounts or formats a device that is claimed. And a pipe that took its place would be waited for.
        let claim = match kind.is_block_device() && mode == Mode::Write {
            true => libc::O_EXCL,
            false => 0,
        };
        let opened = options(mode)
            .custom_flags(claim | libc::O_NONBLOCK)
            .open(path);
        let file = match opened {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => bail!(
                "in use (mounted, swap, part of another device, or another cowroot has it; `lsblk` says where)"
            ),
            Err(error) if error.raw_os_error() == Some(libc::EROFS) && kind.is_block_device() => {
                bail!("it is write-protected; a stick or card may have a switch for that")
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::EIO)) => {
                bail!("{}; {}", described(&error), advice(path))
            }
            opened => opened?,
        };
        if file.metadata()?.file_type() != kind {
            bail!("replaced while it was opened; try again");
        }
        // The kernel opens such a device for writing all the same, and its first commit would fail.
        if mode == Mode::Write && kind.is_block_device() && sys::is_block_device_read_only(&file)? {
            bail!(
                "it is read-only; a switch at the medium, or `blockdev --setrw`, may change that"
            );
        }
        Self::of(path, file, mode)
    }

    /// Make the first file, which must not be there, and lock it; or open a block device, whatever is on it.
    ///
    /// # Errors
    /// It cannot be made, or is there.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        if std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device()) {
            return Self::open(path, Mode::Write);
        }
        if is_meant_as_device(path) {
            bail!("there is no such device, and a file there would be in RAM");
        }
        let file = options(Mode::Write).create_new(true).open(path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("there is something of that name already, which is left as it is")
            }
            file => file?,
        };
        let made = keep_in_place(&file).context("having its file system write it in place");
        made.and_then(|()| Self::of(path, file, Mode::Write))
            .inspect_err(|_| {
                // Nothing is in it; where this fails too, the next try says that it is there.
                let _ = std::fs::remove_file(path);
            })
    }

    /// Whether there is something already where it would go on after its first file.
    #[must_use]
    pub fn has_sibling(&self) -> bool {
        let folder = self.folder.as_ref();
        let is_absent = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        folder.is_some_and(|folder| !folder.open(1, Mode::Read).is_err_and(is_absent))
    }

    fn of(path: &Path, file: File, mode: Mode) -> anyhow::Result<Self> {
        let is_device = file.metadata()?.file_type().is_block_device();
        let folder = match is_device {
            true => None,
            false => Some(Folder::of(path).context("opening its folder")?),
        };
        Self::with(file, folder, mode)
    }

    /// A cowfile that another process has opened: its first file, and its folder unless it is a device (`again`).
    /// A claim on it, and the lock, are the descriptor's.
    ///
    /// # Errors
    /// If there are none, or the lock is not.
    pub fn kept(files: Vec<File>, name: &[u8], mode: Mode) -> anyhow::Result<Self> {
        let mut files = files.into_iter();
        let first = files.next().context("its first file is missing")?;
        let folder = files.next().map(|folder| Folder::kept(folder, name));
        Self::with(first, folder, mode)
    }

    /// The descriptors that `kept` makes a cowfile of, in another process.
    ///
    /// # Errors
    /// There may be no more descriptors.
    pub fn again(&self) -> io::Result<Vec<File>> {
        let first = self.files.first().map(File::try_clone);
        let folder = self.folder.as_ref().map(Folder::again);
        first.into_iter().chain(folder).collect()
    }

    /// The name of its first file; a device has none.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        let name = self.folder.as_ref().map(|folder| folder.name(0));
        name.map_or(Vec::new(), OsString::into_vec)
    }

    fn with(file: File, folder: Option<Folder>, mode: Mode) -> anyhow::Result<Self> {
        let is_device = folder.is_none();
        let lock = match mode {
            Mode::Read => FlockArg::LockSharedNonblock,
            Mode::Write => FlockArg::LockExclusiveNonblock,
        };
        let files = vec![file.try_clone()?];
        let growth = Growth::of(&file, is_device);
        let lock = locked(file, lock, is_device)?;
        Ok(Self {
            mode,
            _lock: lock,
            files,
            file_slots: u32::MAX,
            is_device,
            folder,
            growth,
            any_header: false,
        })
    }

    /// The files that are open, in order.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Slots of each file but the last.
    #[must_use]
    pub fn file_slots(&self) -> u32 {
        self.file_slots
    }

    /// What they were opened for.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// As on another file system than the tests'.
    #[cfg(test)]
    pub(super) fn set_growth(&mut self, growth: Growth) {
        self.growth = growth;
    }

    /// How it grows.
    #[must_use]
    pub fn growth(&self) -> Growth {
        self.growth
    }

    pub(super) fn folder(&self) -> Option<&Folder> {
        self.folder.as_ref()
    }

    /// Take a file that was opened anew as this cowfile's; those behind it are no longer.
    pub(super) fn put_file(&mut self, number: u32, file: File) {
        self.files.truncate(number as usize);
        self.files.push(file);
    }

    fn open_sibling(&self, number: u32, store: [u8; 16]) -> Result<File, Failed> {
        let folder = self.folder.as_ref().ok_or(Failed::Absent)?;
        let file = folder
            .open(number, self.mode)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Failed::Absent,
                _ => Failed::Unreadable,
            })?;
        let mut page = vec![0; CHUNK_LEN];
        let read = read_some(&file, &mut page)
            .map_err(|_| Failed::Unreadable)?
            .len();
        match is_of(&page, store, number) {
            true => Ok(file),
            false if read < CHUNK_LEN => Err(Failed::Absent),
            false if !may_have_been_of(&page, store) => Err(Failed::Foreign),
            false if self.any_header => Ok(file),
            false => Err(Failed::Damaged),
        }
    }

    /// A file's name is durable when its folder is.
    pub(super) fn sync_folder(&self) -> io::Result<()> {
        self.folder.as_ref().map_or(Ok(()), Folder::sync)
    }

    /// Take siblings whose headers are not whole for what they should be: to see whether what is in them is.
    pub fn take_any_header(&mut self) {
        self.any_header = true;
    }

    /// Say in which files the slots are, when one makes a cowfile.
    pub fn set_file_slots(&mut self, file_slots: u32) {
        self.file_slots = file_slots.max(1);
    }

    /// Bytes of the device that it is on; of a file, how long its first file is.
    #[must_use]
    pub fn device_bytes(&self) -> u64 {
        self.files.first().map_or(0, |file| self.file_len(file))
    }

    pub(super) fn file_len(&self, file: &File) -> u64 {
        match self.is_device {
            true => sys::block_device_size_bytes(file).unwrap_or(0),
            false => file.metadata().map_or(0, |metadata| metadata.len()),
        }
    }

    /// Call `act` for each part of a stretch, with its file, where it begins there, and its place in the stretch.
    fn parts(
        &self,
        slot: u32,
        len: usize,
        mut act: impl FnMut(&File, u64, std::ops::Range<usize>) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let (mut slot, mut start) = (slot, 0);
        while start < len {
            let (number, within) = (slot / self.file_slots, slot % self.file_slots);
            let file = self.files.get(number as usize).ok_or(Failure::Io)?;
            let room = self.file_slots - within;
            let end = len.min(start.saturating_add((room as usize).saturating_mul(CHUNK_LEN)));
            act(file, bytes(within), start..end).map_err(|error| failure(&error))?;
            slot = slot.saturating_add(room);
            start = end;
        }
        Ok(())
    }
}

impl Medium for CowFiles {
    fn slots(&mut self) -> u32 {
        let mut slots = 0;
        for file in &self.files {
            let here = self.file_len(file) / CHUNK_BYTES;
            let here = u32::try_from(here).unwrap_or(u32::MAX).min(self.file_slots);
            slots = u32::saturating_add(slots, here);
            if here < self.file_slots {
                break;
            }
        }
        slots
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        self.parts(slot, into.len(), |file, at, part| {
            uninterrupted(|| file.read_exact_at(into.get_mut(part.clone()).unwrap_or_default(), at))
        })
    }

    fn will_read(&mut self, slot: u32, count: u32) {
        let len = (count as usize).saturating_mul(CHUNK_LEN);
        let _ = self.parts(slot, len, |file, at, part| {
            cache::will_read(file, at, part.len() as u64)
        });
    }

    fn lay_out(&mut self, superblock: &Superblock) -> Result<(), Trouble> {
        if self.is_device {
            return Ok(());
        }
        self.file_slots = superblock.file_slots.max(1);
        self.files.truncate(1);
        for number in 1..superblock.max_slots.div_ceil(self.file_slots) {
            let first = number * self.file_slots;
            match self.open_sibling(number, superblock.origin.store) {
                Ok(file) => self.files.push(file),
                // Being grown when the power went. If anything names a slot in it, the cowfile is too short.
                Err(_) if first >= superblock.grown_slots => break,
                Err(Failed::Absent) => break,
                Err(Failed::Unreadable) => return Err(Trouble::Unreadable { slot: first }),
                Err(Failed::Foreign) => return Err(Trouble::ForeignSibling { number }),
                Err(Failed::Damaged) => return Err(Trouble::DamagedSibling { number }),
            }
        }
        Ok(())
    }
}

/// Why a sibling is not used.
enum Failed {
    /// It is not there, or not even as long as its header.
    Absent,
    Unreadable,
    Foreign,
    /// It has no header.
    Damaged,
}

impl MediumMut for CowFiles {
    fn write(&mut self, slot: u32, from: &[u8]) -> Result<(), Failure> {
        self.parts(slot, from.len(), |file, at, part| {
            uninterrupted(|| file.write_all_at(from.get(part.clone()).unwrap_or_default(), at))
        })
    }

    fn sync(&mut self) -> Result<(), Failure> {
        // All of them, whatever the first says: an error is told once.
        let results: Vec<_> = self.files.iter().map(File::sync_data).collect();
        let all: io::Result<()> = results.into_iter().collect();
        all.map_err(|error| failure(&error))
    }

    fn grow(&mut self, from: u32, to: u32, origin: Origin) -> Result<(), Failure> {
        let grown = Self::grow(self, from, to, origin, &mut |file, _| file.sync_all());
        grown.map_err(|error| failure(&error))
    }
}

/// What somebody is told of a file system that needs help.
fn described(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EROFS) => "its file system is mounted read-only".into(),
        _ => error.to_string(),
    }
}

fn options(mode: Mode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(mode == Mode::Write);
    options
}

fn bytes(slots: u32) -> u64 {
    u64::from(slots) * CHUNK_BYTES
}

#[cfg(test)]
#[path = "cowfile_tests.rs"]
mod tests;
