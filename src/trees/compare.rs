//! Two versions of a name: whether they differ, and in what.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};

use super::entry::{Entry, Kind};
use super::folder::Folder;

/// How much of a file is read at a time.
const PIECE: usize = 128 << 10;

/// What of the metadata differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aspects {
    /// Permissions.
    pub mode: bool,
    /// User or group.
    pub owner: bool,
    /// When the content was changed.
    pub mtime: bool,
    /// Extended attributes, ACLs and capabilities among them.
    pub xattrs: bool,
    /// Which other names the same file has.
    pub links: bool,
}

impl Aspects {
    /// Their names, as a list shows them.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            (self.mode, "mode"),
            (self.owner, "owner"),
            (self.mtime, "mtime"),
            (self.xattrs, "xattrs"),
            (self.links, "links"),
        ];
        all.into_iter()
            .filter_map(|(differs, name)| differs.then_some(name))
            .collect()
    }
}

/// What has become of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It is new.
    Added,
    /// Its content is another: a file's bytes, a link's target, a node's device. Perhaps metadata too.
    Content(Aspects),
    /// Only that.
    Metadata(Aspects),
    /// It is another type of thing.
    Kind,
    /// It is gone.
    Deleted,
}

impl Change {
    /// Whether somebody wants to read of it. A directory's time changes with each name in it, which is told.
    #[must_use]
    pub fn is_worth_telling(self, kind: Kind) -> bool {
        let only_mtime = Aspects {
            mtime: true,
            ..Aspects::default()
        };
        match self {
            Self::None => false,
            Self::Metadata(aspects) => kind != Kind::Directory || aspects != only_mtime,
            _ => true,
        }
    }
}

/// Whether the times of change that the kernel keeps can be believed: nobody can set them by hand.
///
/// On FAT and its like they are other times, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ctime {
    /// What has the same is the same.
    Tells,
    /// Contents must be read to know.
    Unknown,
}

impl Ctime {
    /// For a file system of type `kind`.
    #[must_use]
    pub fn of(kind: &str) -> Self {
        match kind {
            "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs" => Self::Tells,
            _ => Self::Unknown,
        }
    }
}

/// A version of a name, and where it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version<'a> {
    pub(super) folder: &'a Folder,
    pub(super) name: &'a OsStr,
    pub(super) entry: Entry,
}

/// What has become of a name that both have.
pub(super) fn compare(base: Version<'_>, session: Version<'_>, ctime: Ctime) -> io::Result<Change> {
    let (old, new) = (&base.entry, &session.entry);
    if old.kind != new.kind {
        return Ok(Change::Kind);
    }
    let is_touched = old.ctime != new.ctime;
    let mut aspects = Aspects {
        mode: old.mode != new.mode,
        owner: (old.uid, old.gid) != (new.uid, new.gid),
        mtime: old.mtime != new.mtime,
        ..Aspects::default()
    };
    let differs = aspects != Aspects::default()
        || old.size_bytes != new.size_bytes
        || old.device != new.device;
    if ctime == Ctime::Tells && !is_touched && !differs {
        return Ok(Change::None);
    }
    aspects.xattrs =
        base.folder.attributes(base.name)? != session.folder.attributes(session.name)?;
    // One name more, or another one: whoever carries it over must carry all of them.
    let has_others = new.kind != Kind::Directory && new.links > 1;
    aspects.links = has_others && (old.links != new.links || (ctime == Ctime::Tells && is_touched));
    Ok(match () {
        () if !is_same_content(base, session)? => Change::Content(aspects),
        () if aspects == Aspects::default() => Change::None,
        () => Change::Metadata(aspects),
    })
}

fn is_same_content(base: Version<'_>, session: Version<'_>) -> io::Result<bool> {
    let (old, new) = (&base.entry, &session.entry);
    match new.kind {
        Kind::File => Ok(old.size_bytes == new.size_bytes
            && is_same_file(
                &base.folder.file(base.name)?,
                &session.folder.file(session.name)?,
            )?),
        Kind::Symlink => Ok(base.folder.target(base.name)? == session.folder.target(session.name)?),
        Kind::BlockDevice | Kind::CharDevice => Ok(old.device == new.device),
        Kind::Directory | Kind::Fifo | Kind::Socket => Ok(true),
    }
}

fn is_same_file(mut one: &File, mut other: &File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let count = read_some(&mut one, &mut left)?;
        let same =
            read_some(&mut other, &mut right)? == count && left.get(..count) == right.get(..count);
        if !same || count == 0 {
            return Ok(same);
        }
    }
}

/// As many bytes as there are, up to a whole buffer.
fn read_some(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
