//! The folder that a cowfile's files are in, held open: whoever serves a device has left the mounts that its path
//! went through.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode as Permissions;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::cowfile::Mode;

/// Descriptors for the largest cowfile, of 16 TiB in files of 4 GiB, each opened twice.
const MOST_DESCRIPTORS: u64 = 2 * 4096 + 1024;

/// Let this process have all files of the largest cowfile open, or as many as it may.
pub fn allow_many_files() {
    let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let wanted = most.max(MOST_DESCRIPTORS);
    if setrlimit(Resource::RLIMIT_NOFILE, MOST_DESCRIPTORS, wanted).is_err() {
        // Not root: no more than was given.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most.min(MOST_DESCRIPTORS), most);
    }
}

/// A cowfile's folder, and the name of its first file.
#[derive(Debug)]
pub(super) struct Folder {
    folder: File,
    name: OsString,
}

impl Folder {
    /// The folder of the file at `path`, whose links are followed: siblings are beside the file itself.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        Ok(Self {
            folder: File::open(path.parent().unwrap_or(Path::new("/")))?,
            name: name.to_owned(),
        })
    }

    /// A folder that another process has opened, and the name of the first file in it.
    pub(super) fn kept(folder: File, name: &[u8]) -> Self {
        let name = OsStr::from_bytes(name).to_owned();
        Self { folder, name }
    }

    /// The folder's descriptor once more.
    pub(super) fn again(&self) -> io::Result<File> {
        self.folder.try_clone()
    }

    /// The name of file `number`: `NAME` is the first, then `NAME.1`, `NAME.2`, ….
    pub(super) fn name(&self, number: u32) -> OsString {
        let mut name = self.name.clone();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name
    }

    /// Open file `number`, which is there.
    pub(super) fn open(&self, number: u32, mode: Mode) -> io::Result<File> {
        self.open_with(number, mode, OFlag::empty())
    }

    /// Open file `number`, or make it.
    pub(super) fn open_or_create(&self, number: u32) -> io::Result<File> {
        self.open_with(number, Mode::Write, OFlag::O_CREAT)
    }

    fn open_with(&self, number: u32, mode: Mode, more: OFlag) -> io::Result<File> {
        let access = match mode {
            Mode::Read => OFlag::O_RDONLY,
            Mode::Write => OFlag::O_RDWR,
        };
        // A pipe of that name would be waited for, and a link might lead anywhere.
        let flags = access | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | more;
        let permissions = Permissions::from_bits_truncate(0o600);
        let name = self.name(number);
        Ok(openat(&self.folder, name.as_os_str(), flags, permissions)?.into())
    }

    /// Remove file `number`.
    pub(super) fn remove(&self, number: u32) -> io::Result<()> {
        let name = self.name(number);
        Ok(unlinkat(
            &self.folder,
            name.as_os_str(),
            UnlinkatFlags::NoRemoveDir,
        )?)
    }

    /// Make the files' names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.folder.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_of_the_largest_cowfile_may_be_open() {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 256, most).unwrap();
        allow_many_files();
        let (now, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let expected = match nix::unistd::geteuid().is_root() {
            true => MOST_DESCRIPTORS,
            false => most.min(MOST_DESCRIPTORS),
        };
        assert_eq!(now, expected);
    }
}
