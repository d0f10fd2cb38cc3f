//! What a file system says of a name: its type, and what tells one version of it from another.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A block device's node.
    BlockDevice,
    /// A character device's node.
    CharDevice,
    /// A named pipe.
    Fifo,
    /// A local socket's name.
    Socket,
}

impl Kind {
    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::BlockDevice => "block device",
            Self::CharDevice => "char device",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }
}

/// A time: seconds since 1970, which may be before it, and nanoseconds from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Seconds.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: i64,
}

/// One version of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Bytes of a file or of a link's target; else 0.
    pub size_bytes: u64,
    /// Permissions, with setuid, setgid and sticky.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When its content was changed, as anybody can say.
    pub mtime: Time,
    /// When anything of it was changed, as the kernel says.
    pub ctime: Time,
    /// File system and inode: the same for all names of one file.
    pub inode: (u64, u64),
    /// How many names it has.
    pub links: u64,
    /// Which device a node stands for.
    pub device: u64,
}

impl Entry {
    /// What the kernel says of it.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let file_type = metadata.file_type();
        let kind = match () {
            () if file_type.is_dir() => Kind::Directory,
            () if file_type.is_symlink() => Kind::Symlink,
            () if file_type.is_block_device() => Kind::BlockDevice,
            () if file_type.is_char_device() => Kind::CharDevice,
            () if file_type.is_fifo() => Kind::Fifo,
            () if file_type.is_socket() => Kind::Socket,
            () => Kind::File,
        };
        let has_size = matches!(kind, Kind::File | Kind::Symlink);
        Self {
            kind,
            size_bytes: if has_size { metadata.len() } else { 0 },
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: Time {
                seconds: metadata.mtime(),
                nanoseconds: metadata.mtime_nsec(),
            },
            ctime: Time {
                seconds: metadata.ctime(),
                nanoseconds: metadata.ctime_nsec(),
            },
            inode: (metadata.dev(), metadata.ino()),
            links: metadata.nlink(),
            device: metadata.rdev(),
        }
    }
}
