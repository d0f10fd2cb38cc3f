//! Whether a base that lies on a server is still the file that was opened.
//!
//! Others may write there. A file that is replaced or changed under a root would be read as a mixture of old and new,
//! so what was read counts only if the server says afterwards that the file is as it was; and now and then it is
//! looked for under its name. Once it is another one no read succeeds any more, whoever serves the device by then.

use std::ffi::{CStr, CString, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use nix::sys::statfs::{FsType, fstatfs};

use crate::sys;

/// How often it is looked for: a change is to be found within a minute.
const LOOK: Duration = Duration::from_secs(20);

/// A name that is not found is looked for again after so long: a server that has just come back may not have all of
/// its folders yet.
const AGAIN: Duration = Duration::from_secs(5);

/// File systems that others write to, of <linux/magic.h>: NFS, SMB (two), Ceph, 9P.
const SHARED: [u32; 5] = [0x6969, 0xfe53_4d42, 0xff53_4d42, 0x00c3_6400, 0x0102_1997];

/// What tells a file and its content from others: inode, size, when it was modified, and when anything of it was
/// changed (seconds and nanoseconds each).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub [u64; 6]);

/// What has become of a file. Its number is what processes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Another one has its name.
    Replaced = 1,
    /// It is the same one with something else in it, or other attributes.
    Altered = 2,
    /// It has no name any more, or the server does not know it; another one may have its name.
    Gone = 3,
}

impl Change {
    /// The one of a number that was shared; none for 0.
    #[must_use]
    pub fn of(number: u32) -> Option<Self> {
        [Self::Replaced, Self::Altered, Self::Gone]
            .into_iter()
            .find(|change| *change as u32 == number)
    }

    /// In words, of a file.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Replaced => "was replaced by another file on its server",
            Self::Altered => "was changed on its server",
            Self::Gone => "was removed from its server, or replaced there",
        }
    }
}

/// What a look at a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// That it is as it was, or nothing.
    Nothing,
    /// It is as it was, and its name is not found.
    NoName,
    /// That it has changed.
    Is(Change),
}

/// What is believed of that: a name that is not found counts only if it still is not after a pause.
fn believed(mut look: impl FnMut() -> Seen, pause: impl FnOnce()) -> Option<Change> {
    let seen = match look() {
        Seen::NoName => {
            pause();
            look()
        }
        seen => seen,
    };
    match seen {
        Seen::Nothing => None,
        Seen::NoName => Some(Change::Gone),
        Seen::Is(change) => Some(change),
    }
}

/// A file that is watched.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    file: File,
    /// Where it is looked for: its folder may have other paths later, or none.
    folder: File,
    name: CString,
    first: Stamp,
    /// What has become of it, for all processes that serve the device.
    change: &'static AtomicU32,
}

impl Watch {
    /// Watch the file `path`, if it is on a server; `change` is 0 before.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, change: &'static AtomicU32) -> anyhow::Result<Option<Self>> {
        let context = || format!("watching '{}'", path.display());
        // Links are followed now, for a daemon does not see where they lead.
        let path = &path.canonicalize().with_context(context)?;
        let file = File::open(path).with_context(context)?;
        let is_shared = fstatfs(&file).is_ok_and(|found| {
            let kind = found.filesystem_type();
            SHARED.iter().any(|&shared| kind == FsType(shared as _))
        });
        let is_file = file.metadata().is_ok_and(|found| found.is_file());
        match is_shared && is_file {
            true => Self::begin(path, file, change)
                .with_context(context)
                .map(Some),
            false => Ok(None),
        }
    }

    fn begin(path: &Path, file: File, change: &'static AtomicU32) -> anyhow::Result<Self> {
        let folder = path.parent().context("it has no folder")?;
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(folder)?;
        let name = path.file_name().context("it has no name")?;
        Ok(Self {
            path: path.to_owned(),
            first: stamp(&file, c"")?.0,
            file,
            folder,
            name: CString::new(name.as_bytes())?,
            change,
        })
    }

    /// Go on watching what another process began to watch.
    ///
    /// # Errors
    /// The path is no file's.
    pub fn go_on(
        path: Vec<u8>,
        [file, folder]: [File; 2],
        first: Stamp,
        change: &'static AtomicU32,
    ) -> anyhow::Result<Self> {
        let path = PathBuf::from(OsString::from_vec(path));
        let name = path
            .file_name()
            .context("watching the base: it has no name")?;
        Ok(Self {
            file,
            folder,
            name: CString::new(name.as_bytes())?,
            first,
            change,
            path,
        })
    }

    /// What `go_on` takes.
    #[must_use]
    pub fn left(&self) -> (Vec<u8>, [&File; 2], Stamp) {
        let path = self.path.as_os_str().as_bytes().to_vec();
        (path, [&self.file, &self.folder], self.first)
    }

    /// Look for it again and again, until it is another one. A server that is away makes this wait.
    pub fn mind(&self) {
        while self.changed().is_none() {
            self.look();
            std::thread::sleep(LOOK);
        }
    }

    /// Whether what has been read is of the file that was opened.
    ///
    /// # Errors
    /// It is not, or the server cannot say.
    pub(crate) fn verify(&self) -> io::Result<()> {
        match self.changed() {
            Some(change) => return Err(error(change)),
            None => match stamp(&self.file, c"") {
                Ok((found, _)) if found == self.first => return Ok(()),
                Err(error) if error.raw_os_error() != Some(libc::ESTALE) => return Err(error),
                // What it was is seen by its name.
                _ => self.look(),
            },
        }
        // It had changed a moment ago, whatever its name says now.
        Err(error(self.changed().unwrap_or(Change::Altered)))
    }

    fn changed(&self) -> Option<Change> {
        Change::of(self.change.load(Ordering::Relaxed))
    }

    /// Look for it, and note what has become of it.
    fn look(&self) {
        if let Some(change) = believed(|| self.seen(), || std::thread::sleep(AGAIN)) {
            self.note(change);
        }
    }

    /// What one look tells.
    fn seen(&self) -> Seen {
        // What the folder holds is asked for only if that seems old.
        let by_name = stamp(&self.folder, c"").and_then(|_| stamp(&self.folder, &self.name));
        let [first, ..] = self.first.0;
        match (by_name, stamp(&self.file, c"")) {
            (Ok((Stamp([inode, ..]), _)), _) if inode != first => Seen::Is(Change::Replaced),
            // Once a server has not known a file by its own, the kernel's client does not ask again.
            (_, Err(error)) if is_gone(&error) => Seen::Is(Change::Gone),
            // A server that caches names may still know it by its own.
            (_, Ok((_, 0))) => Seen::Is(Change::Gone),
            (Ok((found, _)), _) | (_, Ok((found, _))) if found != self.first => {
                Seen::Is(Change::Altered)
            }
            (Err(error), _) if is_gone(&error) => Seen::NoName,
            (Err(error), _) | (_, Err(error)) => {
                log::debug!("looking for '{}': {error}", self.path.display());
                Seen::Nothing
            }
            _ => Seen::Nothing,
        }
    }

    fn note(&self, change: Change) {
        let relaxed = Ordering::Relaxed;
        let is_first = self
            .change
            .compare_exchange(0, change as u32, relaxed, relaxed);
        if is_first.is_ok() {
            log::error!(
                "the base '{}' {}: reading it fails from now on, or old and new would mix; restart what runs on it",
                self.path.display(),
                change.text()
            );
        }
    }
}

fn error(change: Change) -> io::Error {
    io::Error::other(format!("the base {}", change.text()))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ESTALE | libc::ENOTDIR)
    )
}

/// The stamp of a file in `folder`, or of the descriptor itself, and how many names it has, as the server says now.
fn stamp(folder: &File, name: &CStr) -> io::Result<(Stamp, u32)> {
    let found = sys::stat_now(folder.as_fd(), name)?;
    let time = |time: libc::statx_timestamp| [time.tv_sec.cast_unsigned(), time.tv_nsec.into()];
    let [modified, modified_ns] = time(found.stx_mtime);
    let [changed, changed_ns] = time(found.stx_ctime);
    let stamp = Stamp([
        found.stx_ino,
        found.stx_size,
        modified,
        modified_ns,
        changed,
        changed_ns,
    ]);
    Ok((stamp, found.stx_nlink))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn watched(path: &Path) -> Watch {
        let change = Box::leak(Box::new(AtomicU32::new(0)));
        Watch::begin(path, File::open(path).unwrap(), change).unwrap()
    }

    /// Clocks of file systems tick every few milliseconds.
    fn tick() {
        std::thread::sleep(Duration::from_millis(20));
    }

    #[test]
    fn whatever_happens_to_a_file_is_found_named_and_never_forgotten() {
        type Deed = (&'static str, fn(&Path), Option<Change>);
        let deeds: [Deed; 6] = [
            ("nothing", |_| {}, None),
            ("it was read", |path| drop(fs::read(path).unwrap()), None),
            (
                "another",
                |path| {
                    let other = path.with_extension("new");
                    fs::write(&other, b"old").unwrap();
                    fs::rename(other, path).unwrap();
                },
                Some(Change::Replaced),
            ),
            (
                "written",
                |path| {
                    let file = File::options().write(true).open(path).unwrap();
                    std::os::unix::fs::FileExt::write_all_at(&file, b"new", 0).unwrap();
                },
                Some(Change::Altered),
            ),
            (
                "longer",
                |path| {
                    File::options()
                        .write(true)
                        .open(path)
                        .unwrap()
                        .set_len(9)
                        .unwrap()
                },
                Some(Change::Altered),
            ),
            (
                "removed",
                |path| fs::remove_file(path).unwrap(),
                Some(Change::Gone),
            ),
        ];
        for by_name in [true, false] {
            for (what, deed, expected) in deeds {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("base");
                fs::write(&path, b"old").unwrap();
                let watch = watched(&path);
                tick();
                deed(&path);
                if by_name {
                    watch.look();
                }
                let verified = watch.verify();
                assert_eq!(watch.changed(), expected, "{what}");
                assert_eq!(verified.is_err(), expected.is_some(), "{what}");
                let Some(expected) = expected else { continue };
                let text = verified.unwrap_err().to_string();
                assert!(text.contains(expected.text()), "{what}: {text}");
                // Somebody puts it back, and another process goes on.
                fs::write(&path, b"old").unwrap();
                let (left, [file, dir], first) = watch.left();
                let files = [file, dir].map(|file| file.try_clone().unwrap());
                let next = Watch::go_on(left, files, first, watch.change).unwrap();
                assert!(next.verify().is_err(), "{what}");
            }
        }
    }

    #[test]
    fn a_name_that_is_missed_for_a_moment_is_no_change() {
        use Seen::{Is, NoName, Nothing};
        for (looks, pauses, expected) in [
            (vec![Nothing], 0, None),
            (vec![NoName, Nothing], 1, None),
            (vec![NoName, NoName], 1, Some(Change::Gone)),
            (
                vec![NoName, Is(Change::Replaced)],
                1,
                Some(Change::Replaced),
            ),
            (vec![Is(Change::Altered)], 0, Some(Change::Altered)),
        ] {
            let (mut left, mut paused) = (looks.iter(), 0);
            let found = believed(|| *left.next().unwrap(), || paused += 1);
            assert_eq!((found, paused), (expected, pauses), "{looks:?}");
            assert!(left.next().is_none(), "{looks:?}");
        }
    }

    #[test]
    fn a_file_whose_name_is_missed_is_read_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        fs::write(&path, b"old").unwrap();
        let mut watch = watched(&path);
        watch.name = c"no-such".into();
        assert_eq!(watch.seen(), Seen::NoName);
        assert!(watch.verify().is_ok());
    }

    #[test]
    fn a_process_that_goes_on_compares_with_what_the_first_one_saw() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        fs::write(&path, b"old").unwrap();
        let watch = watched(&path);
        let (left, [file, dir], first) = watch.left();
        let files = [file, dir].map(|file| file.try_clone().unwrap());
        tick();
        fs::write(&path, b"new").unwrap();
        let change = Box::leak(Box::new(AtomicU32::new(0)));
        let next = Watch::go_on(left, files, first, change).unwrap();
        next.look();
        assert_eq!(next.changed(), Some(Change::Altered));
    }

    #[test]
    fn a_file_of_this_machine_is_not_watched() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let change = Box::leak(Box::new(AtomicU32::new(0)));
        assert!(Watch::open(file.path(), change).unwrap().is_none());
    }
}
