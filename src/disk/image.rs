//! A new image: copied from a base that is only read, under another name until it is whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, copy_file_range, renameat2};
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
    /// Whose blocks it may share, or have copied by the kernel, as long as that can be.
    pub original: Option<&'a File>,
}

impl NewImage<'_> {
    /// Copy a stretch of `original` to its place here, by the kernel: in the server, where both are on one.
    fn copy_by_kernel(&self, original: &File, (start, end): (u64, u64)) -> io::Result<()> {
        let offset = |at: u64| i64::try_from(at).map_err(io::Error::other);
        let mut at = start;
        while at < end {
            let (mut from, mut to) = (offset(at)?, offset(at)?);
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let copied = uninterrupted(|| {
                let (from, to) = (Some(&mut from), Some(&mut to));
                Ok(copy_file_range(original, from, &self.part.file, to, left)?)
            })?;
            if copied == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += copied as u64;
        }
        Ok(())
    }
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

    fn take(&mut self, start: u64, end: u64) -> bool {
        let Some(original) = self.original else {
            return false;
        };
        let is_taken = self.copy_by_kernel(original, (start, end)).is_ok();
        if !is_taken {
            // Devices, and files of different file systems; what else is wrong a plain copy will say.
            self.original = None;
        }
        is_taken
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_stretch_is_copied_by_the_kernel_where_both_are_files_of_one_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(folder.path().join("base"), &bytes).unwrap();
        let base = File::open(folder.path().join("base")).unwrap();
        let part = Target::new_own(&folder.path().join("new.part"), &base).unwrap();
        let mut image = NewImage {
            part,
            name: &folder.path().join("new"),
            original: Some(&base),
        };
        image.resize(bytes.len() as u64).unwrap();
        assert!(image.take(8192, 900_000), "the kernel can");
        let mut copied = vec![0; bytes.len()];
        image.read(0, &mut copied).unwrap();
        let mut wanted = vec![0; bytes.len()];
        wanted[8192..900_000].copy_from_slice(&bytes[8192..900_000]);
        assert!(copied == wanted, "there, and nowhere else");
        assert!(image.part.file.metadata().unwrap().blocks() < 1800);

        // What the kernel cannot copy is left to a plain copy.
        let other = File::open("/dev/zero").unwrap();
        image.original = Some(&other);
        assert!(!image.take(0, 4096));
        assert!(image.original.is_none(), "it is not tried again");
    }
}
