//! A new image: copied from a base that is only read, under another name until it is whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::{Whence, lseek64};

use super::target::{Target, sync_folder};
use super::{failure, uninterrupted};
use crate::engine::command::Failure;
use crate::engine::merge::BaseMut;
use crate::engine::merge::output::{Image, Source};
use crate::sys;

/// A base that is only read, to be copied.
#[derive(Debug)]
pub struct Original<'a>(pub &'a File, pub u64);

impl Source for Original<'_> {
    fn size_bytes(&mut self) -> u64 {
        self.1
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Failure> {
        uninterrupted(|| self.0.read_exact_at(into, offset)).map_err(|error| failure(&error))
    }

    fn next_stretch(&mut self, offset: u64) -> Option<(u64, u64)> {
        if offset >= self.1 {
            return None;
        }
        let seek = |from: u64, whence| {
            let from = i64::try_from(from).map_err(|_| Errno::EINVAL)?;
            lseek64(self.0, from, whence).map(|at| u64::try_from(at).unwrap_or(0))
        };
        let start = match seek(offset, Whence::SeekData) {
            Ok(start) => start,
            // A hole up to its end.
            Err(Errno::ENXIO) => return None,
            // A block device, or a file system that knows of no holes.
            Err(_) => return Some((offset, self.1)),
        };
        let end = seek(start, Whence::SeekHole).unwrap_or(self.1);
        Some((start, end.clamp(start + 1, self.1)))
    }
}

/// A new image under another name until it is whole.
#[derive(Debug)]
pub struct NewImage<'a> {
    /// What is written.
    pub part: Target,
    /// What it will be called.
    pub name: &'a Path,
    /// Whose blocks it may share.
    pub original: Option<&'a File>,
}

impl BaseMut for NewImage<'_> {
    fn size_bytes(&mut self) -> u64 {
        self.part.size_bytes()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Failure> {
        self.part.read(offset, into)
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), Failure> {
        self.part.write(offset, from)
    }

    fn zero(&mut self, offset: u64, len: u64) -> Result<(), Failure> {
        self.part.zero(offset, len)
    }

    fn resize(&mut self, size_bytes: u64) -> Result<(), Failure> {
        self.part.resize(size_bytes)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.part.sync()
    }

    fn forget(&mut self, offset: u64, len: u64) {
        self.part.forget(offset, len);
    }

    fn will_read(&mut self, offset: u64, len: u64) {
        self.part.will_read(offset, len);
    }
}

impl Image for NewImage<'_> {
    fn share(&mut self) -> bool {
        let shared = self
            .original
            .is_some_and(|original| sys::share_blocks(original, &self.part.file).is_ok());
        if shared && let Ok(metadata) = self.part.file.metadata() {
            self.part.size_bytes = metadata.len();
        }
        shared
    }

    fn publish(&mut self) -> Result<(), Failure> {
        let named = || -> io::Result<()> {
            let here = nix::fcntl::AT_FDCWD;
            let flags = RenameFlags::RENAME_NOREPLACE;
            match renameat2(here, &self.part.path, here, self.name, flags) {
                Ok(()) => {}
                // Not there, on some file systems.
                Err(Errno::EINVAL | Errno::ENOSYS) if !self.name.exists() => {
                    std::fs::rename(&self.part.path, self.name)?;
                }
                Err(error) => return Err(error.into()),
            }
            sync_folder(self.name)?;
            // FAT has the new name's size then, and not before.
            self.part.file.sync_all()
        };
        let named = named();
        self.part.note(named)
    }
}
