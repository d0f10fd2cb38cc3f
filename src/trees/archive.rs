//! What a session has added and changed, as a tar archive in the pax format (pax(1)): owner, mode, times to the
//! nanosecond, extended attributes, names of any length, hard links among what is in it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::sys::stat::{major, minor};
use tar::{Builder, EntryType, Header};

use super::compare::Change;
use super::deletions::bytes_of;
use super::entry::{Entry, Kind, Time};
use super::folder::Attributes;
use super::walk::Found;

/// What a file system calls an extended attribute, behind this (as GNU tar, bsdtar and star do).
const XATTR: &str = "SCHILY.xattr.";

/// Such an archive.
pub struct Archive<W: Write> {
    builder: Builder<W>,
    /// Directories that lead to where the walk is and are not in it, from the top.
    unwritten: Vec<Parent>,
    /// Files with several names that are in it, by the first one.
    names: HashMap<(u64, u64), PathBuf>,
    counts: Counts,
}

/// What an archive has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// What is in it.
    pub entries: u64,
    /// Bytes of the files in it.
    pub bytes: u64,
    /// Sockets, which tar cannot hold: whoever made them makes them anew.
    pub sockets: u64,
}

struct Parent {
    path: PathBuf,
    entry: Entry,
    attributes: Attributes,
}

impl<W: Write> std::fmt::Debug for Archive<W> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Archive")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl<W: Write> Archive<W> {
    /// An empty one.
    pub fn new(to: W) -> Self {
        Self {
            builder: Builder::new(to),
            unwritten: Vec::new(),
            names: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Take in what the session has added or changed, with the directories that lead to it. What `walk` finds comes
    /// here in its order, all of it.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub fn take(&mut self, found: &Found<'_>) -> anyhow::Result<()> {
        let Some(entry) = found.session else {
            return Ok(());
        };
        self.unwritten
            .retain(|parent| found.path.starts_with(&parent.path));
        let archiving = || format!("archiving '/{}'", found.path.display());
        if found.change != Change::None {
            return self
                .write_with_parents(found, &entry)
                .with_context(archiving);
        }
        if entry.kind == Kind::Directory && !found.path.as_os_str().is_empty() {
            self.unwritten.push(Parent {
                path: found.path.to_owned(),
                entry,
                attributes: found.attributes().with_context(archiving)?,
            });
        }
        Ok(())
    }

    /// The archive is complete.
    ///
    /// # Errors
    /// What writing says.
    pub fn finish(self) -> io::Result<(W, Counts)> {
        Ok((self.builder.into_inner()?, self.counts))
    }

    fn write_with_parents(&mut self, found: &Found<'_>, entry: &Entry) -> anyhow::Result<()> {
        if entry.kind == Kind::Socket {
            self.counts.sockets += 1;
            return Ok(());
        }
        for parent in std::mem::take(&mut self.unwritten) {
            let Parent {
                path,
                entry,
                attributes,
            } = &parent;
            self.write(path, entry, attributes, Body::None)?;
        }
        let attributes = found.attributes()?;
        if entry.links > 1 && entry.kind != Kind::Directory {
            if let Some(first) = self.names.get(&entry.inode).cloned() {
                return self.write(found.path, entry, &Attributes::new(), Body::Name(&first));
            }
            self.names.insert(entry.inode, found.path.to_owned());
        }
        let body = match entry.kind {
            Kind::File => Body::File(found.open()?),
            Kind::Symlink => Body::Symlink(found.target()?),
            _ => Body::None,
        };
        self.write(found.path, entry, &attributes, body)
    }

    fn write(
        &mut self,
        path: &Path,
        entry: &Entry,
        attributes: &Attributes,
        body: Body<'_>,
    ) -> anyhow::Result<()> {
        let (mut header, mut records) = header(entry, &body)?;
        let name = name_of(path, entry.kind);
        place_name(&mut header.as_old_mut().name, "path", &name, &mut records);
        if let Some(target) = body.target() {
            let field = &mut header.as_old_mut().linkname;
            place_name(field, "linkpath", &target, &mut records);
        }
        for (name, value) in attributes {
            // A record's name ends at '=', and is text.
            match name.to_str() {
                Some(name) if !name.contains('=') => {
                    records.push((format!("{XATTR}{name}"), value.clone()))
                }
                _ => bail!(
                    "its extended attribute '{}' has a name that tar cannot hold",
                    name.display()
                ),
            }
        }
        header.set_cksum();
        let records = records
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records)?;
        let size_bytes = header.entry_size()?;
        let content: Box<dyn Read> = match body {
            Body::File(file) => Box::new(file.take(size_bytes)),
            _ => Box::new(io::empty()),
        };
        let mut counted = Counted {
            inner: content,
            bytes: 0,
        };
        self.builder.append(&header, &mut counted)?;
        if counted.bytes != size_bytes {
            bail!("only {} of {size_bytes} bytes could be read", counted.bytes);
        }
        self.counts.entries += 1;
        self.counts.bytes += size_bytes;
        Ok(())
    }
}

/// What an entry has beside its metadata.
enum Body<'a> {
    /// Nothing.
    None,
    /// Another name of the same file.
    Name(&'a Path),
    /// What a symbolic link says.
    Symlink(PathBuf),
    /// Bytes.
    File(File),
}

impl Body<'_> {
    fn target(&self) -> Option<Vec<u8>> {
        match self {
            Self::Name(path) => Some(name_of(path, Kind::File)),
            Self::Symlink(target) => Some(bytes_of(target).to_vec()),
            Self::None | Self::File(_) => None,
        }
    }
}

/// Records that come before an entry: what its header has no room for.
type Records = Vec<(String, Vec<u8>)>;

fn header(entry: &Entry, body: &Body<'_>) -> anyhow::Result<(Header, Records)> {
    /// From here on numbers do not fit their fields in octal.
    const MOST_SIZE: u64 = 1 << 33;
    const MOST_ID: u32 = 1 << 21;
    let mut header = Header::new_ustar();
    let mut records = Records::new();
    header.set_entry_type(match (body, entry.kind) {
        (Body::Name(_), _) => EntryType::Link,
        (_, Kind::File) => EntryType::Regular,
        (_, Kind::Directory) => EntryType::Directory,
        (_, Kind::Symlink) => EntryType::Symlink,
        (_, Kind::BlockDevice) => EntryType::Block,
        (_, Kind::CharDevice) => EntryType::Char,
        (_, Kind::Fifo) => EntryType::Fifo,
        (_, Kind::Socket) => bail!("tar holds no sockets"),
    });
    header.set_mode(entry.mode);
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    let size_bytes = match body {
        Body::File(_) => entry.size_bytes,
        _ => 0,
    };
    header.set_size(size_bytes);
    for (name, value, most) in [
        ("uid", entry.uid.into(), MOST_ID.into()),
        ("gid", entry.gid.into(), MOST_ID.into()),
        ("size", size_bytes, MOST_SIZE),
    ] {
        if value >= most {
            records.push((name.into(), value.to_string().into()));
        }
    }
    let seconds = u64::try_from(entry.mtime.seconds).unwrap_or_default();
    header.set_mtime(seconds.min(MOST_SIZE - 1));
    if i64::try_from(seconds) != Ok(entry.mtime.seconds)
        || seconds >= MOST_SIZE
        || entry.mtime.nanoseconds != 0
    {
        records.push(("mtime".into(), time_text(entry.mtime).into()));
    }
    if matches!(entry.kind, Kind::BlockDevice | Kind::CharDevice) {
        header.set_device_major(u32::try_from(major(entry.device))?)?;
        header.set_device_minor(u32::try_from(minor(entry.device))?)?;
    }
    Ok((header, records))
}

/// Seconds with a fraction, also before 1970.
fn time_text(time: Time) -> String {
    match (time.seconds, time.nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (seconds @ ..0, nanoseconds) => {
            format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
        }
        (seconds, nanoseconds) => format!("{seconds}.{nanoseconds:09}"),
    }
}

/// A name as tar writes it: relative, and with a slash behind a directory's.
fn name_of(path: &Path, kind: Kind) -> Vec<u8> {
    let mut name = match path.as_os_str().is_empty() {
        true => b".".to_vec(),
        false => bytes_of(path).to_vec(),
    };
    if kind == Kind::Directory {
        name.push(b'/');
    }
    name
}

/// Put a name into its field, and into a record where it is longer than that.
fn place_name(field: &mut [u8], record: &str, name: &[u8], records: &mut Records) {
    for (byte, &from) in field.iter_mut().zip(name) {
        *byte = from;
    }
    if name.len() > field.len() {
        records.push((record.to_owned(), name.to_vec()));
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}
