//! The base: opened for reading only, a regular file or a block device.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, bail};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use crate::disk::uninterrupted;
use crate::sys;

/// What is never written.
#[derive(Debug)]
pub struct Base {
    file: File,
    path: PathBuf,
    size_bytes: u64,
    patience: AtomicU8,
}

/// What came of trying to read without waiting.
#[derive(Debug)]
pub(crate) enum AtOnce {
    /// It was in memory, or it failed.
    Done(io::Result<usize>),
    /// Somebody who may wait has to read it.
    WouldWait,
}

/// Reads never wait: all of it is in RAM.
const NEVER_WAITS: u8 = 0;
/// Ask for each read (RWF_NOWAIT).
const ASK: u8 = 1;
/// The file system cannot tell, so any read may wait.
const MAY_WAIT: u8 = 2;

impl Base {
    /// Open a base.
    ///
    /// # Errors
    /// If it cannot be opened, is neither a regular file nor a block device, or is empty.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("opening base '{}'", path.display());
        let file = File::open(path).with_context(context)?;
        let metadata = file.metadata().with_context(context)?;
        let size_bytes = if metadata.file_type().is_block_device() {
            refuse_writable_mount(metadata.rdev()).with_context(context)?;
            sys::block_device_size_bytes(&file).with_context(context)?
        } else if metadata.is_file() {
            metadata.len()
        } else {
            bail!(
                "opening base '{}': neither a regular file nor a block device",
                path.display()
            );
        };
        if size_bytes < 512 {
            bail!(
                "opening base '{}': its {size_bytes} bytes hold no disk; is the download whole?",
                path.display()
            );
        }
        let in_ram = metadata.is_file()
            && fstatfs(&file).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC);
        let patience = AtomicU8::new(if in_ram { NEVER_WAITS } else { ASK });
        Ok(Self {
            file,
            path: path.to_owned(),
            size_bytes,
            patience,
        })
    }

    /// Its size in bytes; need not be a multiple of anything.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Read, and wait for it if need be. Short only where the file ends.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| self.file.read_at(buffer, offset))
    }

    /// Read what is in memory.
    pub(crate) fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> AtOnce {
        match self.patience.load(Ordering::Relaxed) {
            NEVER_WAITS => return AtOnce::Done(self.read_at(buffer, offset)),
            MAY_WAIT => return AtOnce::WouldWait,
            _ => {}
        }
        match uninterrupted(|| sys::read_at_nowait(&self.file, buffer, offset)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => AtOnce::WouldWait,
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS)
                ) =>
            {
                self.patience.store(MAY_WAIT, Ordering::Relaxed);
                AtOnce::WouldWait
            }
            done => AtOnce::Done(done),
        }
    }
}

/// A base that somebody else writes would change under its session.
fn refuse_writable_mount(device: u64) -> anyhow::Result<()> {
    let number = format!(
        "{}:{}",
        nix::sys::stat::major(device),
        nix::sys::stat::minor(device)
    );
    let mounts =
        std::fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    match writable_mount_of(&number, &mounts) {
        Some(place) => bail!(
            "mounted read-write at '{place}', so it would change under its session; unmount it or remount it read-only first"
        ),
        None => Ok(()),
    }
}

/// Where `mounts` (the text of /proc/self/mountinfo) has the device `number` (major:minor) mounted
/// with its file system writable.
fn writable_mount_of<'a>(number: &str, mounts: &'a str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (found, place) = (fields.nth(2)?, fields.nth(1)?);
        let writable = file_system
            .split(' ')
            .nth(2)?
            .split(',')
            .any(|option| option == "rw");
        (found == number && writable).then_some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_base_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let empty = tempfile::NamedTempFile::new().unwrap();
        for (path, reason) in [
            (folder.path(), "neither a regular file nor a block device"),
            (
                Path::new("/dev/null"),
                "neither a regular file nor a block device",
            ),
            (
                Path::new("/nonexistent/base"),
                "opening base '/nonexistent/base'",
            ),
            (empty.path(), "hold no disk"),
        ] {
            let error = format!("{:#}", Base::open(path).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_device_whose_file_system_is_writable_is_found() {
        let mounts = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                      37 35 98:1 / /ro ro - ext4 /dev/vdb ro,norecovery\n";
        assert_eq!(writable_mount_of("98:0", mounts), Some("/mnt2"));
        assert_eq!(writable_mount_of("98:1", mounts), None);
        assert_eq!(writable_mount_of("98:2", mounts), None);
    }
}
