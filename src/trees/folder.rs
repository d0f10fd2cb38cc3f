//! A folder that is open, and what is in it, by name. Paths may be longer than the kernel takes at once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::entry::Entry;

/// Names and values of extended attributes.
pub(super) type Attributes = BTreeMap<OsString, Vec<u8>>;

#[derive(Debug)]
pub(super) struct Folder {
    opened: File,
}

impl Folder {
    /// Open the folder at `path`, which is no link.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        Ok(Self { opened: opened? })
    }

    /// It itself.
    pub(super) fn opened(&self) -> &File {
        &self.opened
    }

    /// Open a folder in it.
    pub(super) fn open_below(&self, name: &OsStr) -> io::Result<Self> {
        Self::open(&self.place(name))
    }

    /// All names in it but `.` and `..`.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let entries = std::fs::read_dir(self.place(OsStr::new("")))?;
        entries.map(|entry| Ok(entry?.file_name())).collect()
    }

    /// What there is of that name; of the folder itself for none.
    pub(super) fn entry(&self, name: &OsStr) -> io::Result<Entry> {
        let metadata = match name.is_empty() {
            true => self.opened.metadata(),
            false => std::fs::symlink_metadata(self.place(name)),
        };
        Ok(Entry::of(&metadata?))
    }

    /// Open a regular file in it to read.
    pub(super) fn file(&self, name: &OsStr) -> io::Result<File> {
        // What is no file any more must not be waited for.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(self.place(name))
    }

    /// What a symbolic link in it says.
    pub(super) fn target(&self, name: &OsStr) -> io::Result<PathBuf> {
        std::fs::read_link(self.place(name))
    }

    /// The extended attributes of what has that name; of the folder itself for none. A file system without any has none.
    pub(super) fn attributes(&self, name: &OsStr) -> io::Result<Attributes> {
        let place = self.place(name);
        let names = match xattr::list(&place) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                return Ok(Attributes::new());
            }
            names => names?,
        };
        let mut attributes = Attributes::new();
        for name in names {
            // One that is listed and has no value is for somebody else.
            if let Some(value) = xattr::get(&place, &name)? {
                attributes.insert(name, value);
            }
        }
        Ok(attributes)
    }

    /// A path that leads through the open folder, however deep it lies. With a slash at its end it is the folder's.
    fn place(&self, name: &OsStr) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.opened.as_raw_fd())).join(name)
    }
}
