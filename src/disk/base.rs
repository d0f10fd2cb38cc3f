//! The base: opened for reading only, a regular file or a block device.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use crate::disk::lock::holder;
use crate::disk::over::Over;
use crate::disk::stamp::is_hidden;
use crate::disk::uninterrupted;
use crate::disk::watch::Watch;
use crate::engine::units::SECTOR_BYTES;
use crate::sys;

/// Bytes of the largest device: far below what arithmetic bears.
const LARGEST_DEVICE: u64 = 1 << 60;

/// What is never written.
#[derive(Debug)]
pub struct Base {
    file: File,
    path: PathBuf,
    size_bytes: u64,
    patience: AtomicU8,
    watch: Option<Arc<Watch>>,
    /// A session over it that is only read, and belongs to it for whoever reads this.
    over: Option<Over>,
    /// Tells other sessions that a block device's claim is held by one of us.
    _lock: Option<Flock<File>>,
}

/// What came of trying to read without waiting.
#[derive(Debug)]
pub(crate) enum AtOnce {
    /// It was in memory, or it failed.
    Done(io::Result<usize>),
    /// Somebody who may wait has to read it.
    WouldWait,
}

/// How often one part of the base is read, for its server loses sight of it.
const TRIES: u32 = 8;

/// Reads never wait: all of it is in RAM.
const NEVER_WAITS: u8 = 0;
/// Ask for each read (RWF_NOWAIT).
const ASK: u8 = 1;
/// The file system cannot tell, so any read may wait.
const MAY_WAIT: u8 = 2;

impl Base {
    /// Open a base. A block device is claimed, so that nobody mounts or formats it meanwhile; several
    /// sessions share one claim.
    ///
    /// # Errors
    /// If it cannot be opened, is neither a regular file nor a block device, holds no disk, or is in
    /// use by somebody who may change it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("opening base '{}'", path.display());
        let mut file = File::open(path).with_context(context)?;
        let metadata = file.metadata().with_context(context)?;
        let lock;
        let size_bytes = if metadata.file_type().is_block_device() {
            (file, lock) = claim(path, metadata.rdev()).with_context(context)?;
            sys::block_device_size_bytes(&file).with_context(context)?
        } else if metadata.is_file() {
            lock = shared(&file).with_context(context)?;
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
        Ok(Self {
            _lock: lock,
            ..Self::of(file, path, size_bytes)
        })
    }

    /// One that nothing can be read of: for what is done to a cowfile alone.
    ///
    /// # Errors
    /// There is no /dev/null.
    pub fn none() -> io::Result<Self> {
        let path = Path::new("/dev/null");
        Ok(Self::of(File::open(path)?, path, 0))
    }

    /// A base that another process has opened; a claim on it, and a lock, are the descriptor's.
    #[must_use]
    pub fn of(file: File, path: &Path, size_bytes: u64) -> Self {
        let in_ram = fstatfs(&file).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC)
            && file.metadata().is_ok_and(|metadata| metadata.is_file());
        Self {
            file,
            path: path.to_owned(),
            size_bytes,
            patience: AtomicU8::new(if in_ram { NEVER_WAITS } else { ASK }),
            watch: None,
            over: None,
            _lock: None,
        }
    }

    /// The same, whose reads count only as long as `watch` says so.
    #[must_use]
    pub fn watched(self, watch: Option<Watch>) -> Self {
        Self {
            watch: watch.map(|watch| Arc::new(watch.of_reads_from(&self.file))),
            ..self
        }
    }

    /// What sees to it that it stays as it is, if it is on a server.
    #[must_use]
    pub fn watch(&self) -> Option<&Arc<Watch>> {
        self.watch.as_ref()
    }

    /// The same with a session over it.
    #[must_use]
    pub fn under(self, session: Over) -> Self {
        Self {
            size_bytes: session.size_bytes(),
            over: Some(session),
            ..self
        }
    }

    /// The session over it.
    #[must_use]
    pub fn over(&self) -> Option<&Over> {
        self.over.as_ref()
    }

    /// The same once more, through the mounts that this process sees now; `None` for a block device,
    /// which lies on no mount.
    ///
    /// # Errors
    /// As `open`.
    pub fn opened_again(&self) -> anyhow::Result<Option<Self>> {
        let is_file = self
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.is_file());
        is_file.then(|| Self::open(&self.path)).transpose()
    }

    /// Its size in bytes; need not be a multiple of anything.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The file, to look into.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Read, and wait for it if need be. Short only where the file ends.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.over {
            None => self.read_alone(buffer, offset),
            Some(over) => over.read_at(buffer, offset, |part, at| self.read_alone(part, at)),
        }
    }

    fn read_alone(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.read_watched(buffer, offset)? {
            // A disk that was pulled out is 0 bytes long.
            0 if self.has(offset) && !buffer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }

    /// Whether it is longer than that; a session over it may be longer than it is.
    fn has(&self, offset: u64) -> bool {
        let bytes = self.over.as_ref().map_or(self.size_bytes, Over::base_bytes);
        offset < bytes
    }

    /// Read, and see whether the file is still what it was: a server may have another one by now.
    fn read_watched(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(watch) = &self.watch else {
            return uninterrupted(|| self.file.read_at(buffer, offset));
        };
        let mut hidden = io::Error::from_raw_os_error(libc::ESTALE);
        let mut is_renewed = false;
        for _ in 0..TRIES {
            let instead = watch.instead();
            let file = instead.as_deref().unwrap_or(&self.file);
            let read = uninterrupted(|| file.read_at(buffer, offset));
            // Afterwards, and also what failed: a file that is gone fails with other words.
            let counts = watch.verify()?;
            match read {
                Err(error) if is_hidden(&error) => {
                    hidden = error;
                    // By its name it is there; what is in it is still refused.
                    if counts && !watch.pauses() {
                        break;
                    }
                }
                Err(error) if counts && is_given_up(&error) => {
                    // Once, for it may be the server's disk.
                    if is_renewed || !watch.renew(instead.as_ref()) {
                        return Err(error);
                    }
                    is_renewed = true;
                }
                read if counts => {
                    watch.is_seen();
                    return read;
                }
                _ => {}
            }
        }
        Err(hidden)
    }

    /// Read what is in memory.
    pub(crate) fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> AtOnce {
        match self.patience.load(Ordering::Relaxed) {
            // The server has to be asked, or the cowfile read, whatever is in memory.
            _ if self.watch.is_some() || self.over.is_some() => return AtOnce::WouldWait,
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
            // What ends before its end has failed: who may wait finds out how.
            Ok(0) if self.has(offset) => AtOnce::WouldWait,
            done => AtOnce::Done(done),
        }
    }
}

/// Open a block device so that nobody else can mount it read-write, or put it below anything.
///
/// The first session holds the kernel's exclusive claim, and each a shared lock beside it: that is how
/// the next one knows who has the claim.
fn claim(path: &Path, device: u64) -> anyhow::Result<(File, Option<Flock<File>>)> {
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match open(libc::O_EXCL) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let file = open(0)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // Another session has it claimed, and is locked.
                Err((file, Errno::EWOULDBLOCK)) => file,
                Ok(_) if is_mounted_read_only(device)? => open(0)?,
                _ => bail!(
                    "in use by somebody who may change it (mounted read-write, swap, or part of another device; `lsblk` \
                     says where); unmount it, or remount it read-only"
                ),
            }
        }
        claimed => claimed?,
    };
    // Somebody else's exclusive lock (udev reads the device, say) only means that the next session
    // cannot know about us.
    let shared = Flock::lock(file.try_clone()?, FlockArg::LockSharedNonblock).ok();
    Ok((file, shared))
}

/// The lock by which a merge into a base knows that it is in use. Where there are no locks nobody knows.
fn shared(file: &File) -> anyhow::Result<Option<Flock<File>>> {
    match Flock::lock(file.try_clone()?, FlockArg::LockSharedNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((file, Errno::EWOULDBLOCK)) => bail!(
            "it is being written by {}: a merge into it, most likely; wait until that is over",
            holder(&file).unwrap_or_else(|| "another process".into())
        ),
        Err(_) => Ok(None),
    }
}

/// Whether the device is mounted, and nowhere with its file system writable.
fn is_mounted_read_only(device: u64) -> anyhow::Result<bool> {
    let number = format!(
        "{}:{}",
        nix::sys::stat::major(device),
        nix::sys::stat::minor(device)
    );
    let mounts =
        std::fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    let writable = writable_mounts_of(&number, &mounts);
    Ok(!writable.is_empty() && writable.iter().all(|writable| !writable))
}

/// For each mount of the device `number` (major:minor) in `mounts`, the text of /proc/self/mountinfo:
/// whether its file system is writable.
fn writable_mounts_of(number: &str, mounts: &str) -> Vec<bool> {
    let mount = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let found = mount.split(' ').nth(2)?;
        let writable = file_system
            .split(' ')
            .nth(2)?
            .split(',')
            .any(|option| option == "rw");
        (found == number).then_some(writable)
    };
    mounts.lines().filter_map(mount).collect()
}

/// Size of the device over a base of `base_bytes`: whole sectors, or as asked.
///
/// # Errors
/// If a size was asked for that would hide the end of the base, or is no whole number of sectors.
pub fn device_size_bytes(base_bytes: u64, asked: Option<u64>) -> anyhow::Result<u64> {
    let Some(asked) = asked else {
        return Ok(base_bytes.next_multiple_of(SECTOR_BYTES));
    };
    if asked < base_bytes {
        bail!(
            "sizing the device: {asked} bytes are fewer than the base has ({base_bytes}); it would lose its end"
        );
    }
    if asked % SECTOR_BYTES != 0 {
        bail!("sizing the device: {asked} bytes are no multiple of 512");
    }
    if asked > LARGEST_DEVICE {
        bail!("sizing the device: {asked} bytes are more than any device has");
    }
    Ok(asked)
}

/// Whether it may be the descriptor alone that reads no more.
fn is_given_up(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EBADF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_whole_sectors_and_never_hides_the_end_of_its_base() {
        assert_eq!(device_size_bytes(1, None).unwrap(), 512);
        assert_eq!(device_size_bytes(1024, None).unwrap(), 1024);
        assert_eq!(device_size_bytes(1000, Some(1 << 20)).unwrap(), 1 << 20);
        assert!(device_size_bytes(1000, Some(512)).is_err());
        assert!(device_size_bytes(1000, Some(1025)).is_err());
        assert!(device_size_bytes(1000, Some(1 << 63)).is_err());
    }

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
    fn a_mount_whose_file_system_is_writable_is_told_from_one_that_is_not() {
        let mounts = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                      37 35 98:1 / /ro ro - ext4 /dev/vdb ro,norecovery\n\
                      38 35 98:0 / /mnt3 ro - ext3 /dev/root rw\n";
        assert_eq!(
            writable_mounts_of("98:0", mounts),
            [true, true],
            "a read-only view of a writable one"
        );
        assert_eq!(writable_mounts_of("98:1", mounts), [false]);
        assert!(writable_mounts_of("98:2", mounts).is_empty());
    }

    #[test]
    fn a_base_that_ends_before_its_end_has_failed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8192).unwrap();
        let base = Base::open(file.path()).unwrap();
        let mut bytes = [7; 512];
        assert_eq!(base.read_at(&mut bytes, 8192).unwrap(), 0, "its end");
        // As the kernel does with a disk that was pulled out.
        file.as_file().set_len(0).unwrap();
        let error = base.read_at(&mut bytes, 4096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(!matches!(
            base.read_at_once(&mut bytes, 4096),
            AtOnce::Done(Ok(_))
        ));
    }
}
