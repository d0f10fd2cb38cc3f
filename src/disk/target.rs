//! What a merge writes to: a base, opened so that nobody else uses it; an undo log; a new image (`image`).

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use nix::sys::statfs::{NFS_SUPER_MAGIC, fstatfs};

use super::lock::{holder, locked};
use super::{cache, failure, uninterrupted};
use crate::engine::command::Failure;
use crate::engine::merge::BaseMut;
use crate::sys;

/// Zeros written at a time where there are no holes.
const ZEROS: usize = 1 << 20;
/// How often, each tenth of a second, somebody who only looks at a file is waited for.
const TRIES: u32 = 15;

/// A file or a block device that is written.
#[derive(Debug)]
pub struct Target {
    pub(super) file: File,
    pub(super) path: PathBuf,
    is_device: bool,
    pub(super) size_bytes: u64,
    /// Holes can be made, as far as is known.
    has_holes: bool,
    last_error: Option<io::Error>,
    _lock: Option<Flock<File>>,
}

impl Target {
    /// A base, to be merged into: for as long as this lives nobody else may use it.
    ///
    /// # Errors
    /// It cannot be written, or somebody uses it.
    pub fn base(path: &Path) -> anyhow::Result<Self> {
        let kind = std::fs::metadata(path)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            bail!("neither a regular file nor a block device");
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if kind.is_block_device() {
            options.custom_flags(libc::O_EXCL);
        }
        let file = options.open(path).map_err(described)?;
        let target = Self::of(file, path)?;
        if target.is_device {
            if sys::is_block_device_read_only(&target.file)? {
                bail!("it is read-only; `blockdev --setrw` may change that, or use --output");
            }
            // A session that joined another one's claim has this lock only. Not held: who comes next would take it for
            // a session's, and join.
            drop(locked(
                target.file.try_clone()?,
                FlockArg::LockExclusiveNonblock,
                true,
            )?);
            return Ok(target);
        }
        let lock = Flock::lock(target.file.try_clone()?, FlockArg::LockExclusiveNonblock);
        let lock = match lock {
            Ok(lock) => Some(lock),
            Err((file, Errno::EWOULDBLOCK)) => bail!(
                "in use by {}; detach the device that it serves, or wait",
                holder(&file).unwrap_or_else(|| "another process".into())
            ),
            // No locks there.
            Err(_) => None,
        };
        unused(&target)?;
        Ok(Self {
            _lock: lock,
            ..target
        })
    }

    /// A file of one's own: an undo log, or a new image that has not got its name yet.
    ///
    /// # Errors
    /// It cannot be opened, or somebody else writes it.
    pub fn own(path: &Path) -> anyhow::Result<Self> {
        Self::owned(path, OpenOptions::new().custom_flags(libc::O_NONBLOCK))
    }

    /// The same of one that nobody else can have begun, in a folder where others may write.
    ///
    /// # Errors
    /// It is another user's, or has a second name; or as `own`.
    pub fn surely_own(path: &Path) -> anyhow::Result<Self> {
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
        let target = Self::owned(path, OpenOptions::new().custom_flags(flags))?;
        let metadata = target.file.metadata()?;
        if metadata.nlink() != 1 || metadata.uid() != nix::unistd::geteuid().as_raw() {
            bail!("it belongs to another user, or has a second name; move it away");
        }
        Ok(target)
    }

    /// The same, new. Others may read it, and write it, as far as they may the base that goes into it: those of another
    /// group not at all.
    ///
    /// # Errors
    /// There is one of that name, or it cannot be made.
    pub fn new_own(path: &Path, base: &File) -> anyhow::Result<Self> {
        let base = base.metadata()?;
        let mode = base.mode() & 0o666 | 0o600;
        let mut options = OpenOptions::new();
        let target = Self::owned(path, options.create_new(true).mode(mode & 0o606))?;
        if target.file.metadata()?.gid() == base.gid() {
            // Where a file system knows no modes that is as well.
            let _ = target.file.set_permissions(Permissions::from_mode(mode));
        }
        sync_folder(path)?;
        Ok(target)
    }

    fn owned(path: &Path, options: &mut OpenOptions) -> anyhow::Result<Self> {
        let file = options.read(true).write(true).open(path)?;
        if !file.metadata()?.is_file() {
            bail!("not a regular file");
        }
        let lock = Flock::lock(file.try_clone()?, FlockArg::LockExclusiveNonblock);
        if let Err((_, Errno::EWOULDBLOCK)) = lock {
            bail!("another merge writes it; wait until that is over");
        }
        let target = Self::of(file, path)?;
        Ok(Self {
            _lock: lock.ok(),
            ..target
        })
    }

    fn of(file: File, path: &Path) -> anyhow::Result<Self> {
        let is_device = file.metadata()?.file_type().is_block_device();
        let size_bytes = match is_device {
            true => sys::block_device_size_bytes(&file)?,
            false => file.metadata()?.len(),
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            is_device,
            size_bytes,
            has_holes: true,
            last_error: None,
            _lock: None,
        })
    }

    /// The file, to look into.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether its size is what it is.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.is_device
    }

    /// Its size.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size_bytes
    }

    /// What it takes of its file system.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |it| it.blocks() * 512)
    }

    /// The last error, in the kernel's words.
    pub fn last_error(&mut self) -> Option<io::Error> {
        self.last_error.take()
    }

    pub(super) fn note<T>(&mut self, result: io::Result<T>) -> Result<T, Failure> {
        result.map_err(|error| {
            let kind = failure(&error);
            self.last_error = Some(error);
            kind
        })
    }

    /// Where there are no holes. What reads as zeros already is not written: that is quicker, and wears no flash.
    fn write_zeros(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut done = 0;
        while done < len {
            let part = usize::try_from(len - done).map_or(ZEROS, |left| left.min(ZEROS));
            bytes.resize(part, 0);
            let read = uninterrupted(|| self.file.read_exact_at(&mut bytes, offset + done));
            // A sector that does not read may after it was written.
            if read.is_err() || bytes.iter().any(|byte| *byte != 0) {
                bytes.fill(0);
                uninterrupted(|| self.file.write_all_at(&bytes, offset + done))?;
            }
            done += part as u64;
        }
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let signed = |number: u64| i64::try_from(number).map_err(io::Error::other);
        let (offset, len) = (signed(offset)?, signed(len)?);
        uninterrupted(|| Ok(fallocate(&self.file, flags, offset, len)?))
    }
}

/// Nobody else has it open: a virtual machine, a loop device.
fn unused(target: &Target) -> anyhow::Result<()> {
    // There a lease is refused with the same error wherever the server has delegated nothing (fs/nfs/nfs4proc.c,
    // nfs4_add_lease).
    if fstatfs(&target.file).is_ok_and(|stat| stat.filesystem_type() == NFS_SUPER_MAGIC) {
        return Ok(());
    }
    for _ in 0..TRIES {
        if !sys::is_open_elsewhere(&target.file) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    match loop_device(&target.path) {
        Some(device) => {
            bail!("in use by {device}; unmount what is on that, and `losetup -d {device}`")
        }
        None => bail!("another program has it open (`fuser` says which); close that first"),
    }
}

/// The loop device that a file is behind.
fn loop_device(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let devices = std::fs::read_dir("/sys/block").ok()?;
    devices.flatten().find_map(|device| {
        let backing = std::fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        let is_it = Path::new(backing.trim_end()) == path;
        is_it.then(|| format!("/dev/{}", device.file_name().display()))
    })
}

fn described(error: io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::EROFS) => anyhow::anyhow!(
            "its medium is read-only, or mounted so; --output makes a new image, elsewhere"
        ),
        Some(libc::EACCES | libc::EPERM) => anyhow::anyhow!(
            "{error}: it must be writable, and not immutable; or --output makes a new image, elsewhere"
        ),
        Some(libc::EBUSY) => anyhow::anyhow!(
            "in use (mounted, swap, part of another device, or a session has it as its base; `lsblk` says where); \
             unmount or detach that first"
        ),
        _ => error.into(),
    }
}

/// The folder that a file is in.
#[must_use]
pub fn folder(path: &Path) -> &Path {
    let folder = path.parent();
    let named = folder.filter(|folder| !folder.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

/// Make durable which files there are beside this one.
///
/// # Errors
/// What stands in the way.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

impl BaseMut for Target {
    fn size_bytes(&mut self) -> u64 {
        self.size_bytes
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Failure> {
        let read = uninterrupted(|| self.file.read_exact_at(into, offset));
        self.note(read)
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), Failure> {
        let written = uninterrupted(|| self.file.write_all_at(from, offset));
        self.note(written)
    }

    fn zero(&mut self, offset: u64, len: u64) -> Result<(), Failure> {
        if self.has_holes {
            match self.punch(offset, len) {
                Ok(()) => return Ok(()),
                Err(_) => self.has_holes = false,
            }
        }
        let written = self.write_zeros(offset, len);
        self.note(written)
    }

    fn resize(&mut self, size_bytes: u64) -> Result<(), Failure> {
        let resized = match self.is_device {
            true if size_bytes > self.size_bytes => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            true => return Ok(()),
            false => uninterrupted(|| self.file.set_len(size_bytes)),
        };
        self.note(resized)?;
        self.size_bytes = size_bytes;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let synced = self.file.sync_all();
        self.note(synced)
    }

    fn forget(&mut self, offset: u64, len: u64) {
        // What stays in the cache is compared with what was written, and no worse.
        let _ = cache::forget(&self.file, offset, len);
    }

    fn will_read(&mut self, offset: u64, len: u64) {
        let _ = cache::will_read(&self.file, offset, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_not_written_over_zeros_where_there_are_no_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let base = File::create(folder.path().join("base")).unwrap();
        let mut target = Target::new_own(&path, &base).unwrap();
        target.has_holes = false;
        target.resize(8 << 20).unwrap();
        target.write(3 << 20, &[1; 8192]).unwrap();
        target.sync().unwrap();
        let taken = target.taken_bytes();
        target.zero(0, 8 << 20).unwrap();
        target.sync().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes == vec![0; 8 << 20]);
        assert!(
            target.taken_bytes() <= taken + ZEROS as u64,
            "a part, whole"
        );
    }
}
