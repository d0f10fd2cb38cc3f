//! Whether a base that lies on a server is still the file that was opened.
//!
//! Others may write there. A file that is replaced or changed under a root would be read as a mixture of old and new,
//! so what was read counts only if the server says afterwards that the file is as it was; and now and then it is
//! looked for under its name. Once it is another one no read succeeds any more, whoever serves the device by then.
//!
//! A server may not know a file for a while (ESTALE), or not let us have it (EACCES): its exports come up after it does.
//! That is waited for. Linux's client remembers the first of an open file for ever, so the file is opened again by its name
//! then, and read on if it is as it was.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, fstatfs};

use super::stamp::{Stamp, is_gone, is_hidden, is_stale, stamp};
use crate::sys;

/// How often it is looked for: a change is to be found within a minute.
const LOOK: Duration = Duration::from_secs(20);

/// A name that is not found, or is refused, is looked for again and again, for so long before that is believed: a server
/// that has just come back may not have all of its exports and folders yet.
const AGAIN: Duration = Duration::from_secs(5);
const HIDDEN: Duration = Duration::from_secs(30);

/// File systems that others write to, of <linux/magic.h>: NFS, SMB (two), Ceph, 9P.
const SHARED: [u32; 5] = [0x6969, 0xfe53_4d42, 0xff53_4d42, 0x00c3_6400, 0x0102_1997];

/// What has become of a file. Its number is what processes share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Another one has its name.
    Replaced = 1,
    /// It is the same one with something else in it, or other attributes.
    Altered = 2,
    /// It has no name any more; another one may have it.
    Gone = 3,
    /// It is there as it was, and what is in it cannot be read on: the server has not known it for a while.
    Forgotten = 4,
}

impl Change {
    /// The one of a number that was shared; none for 0.
    #[must_use]
    pub fn of(number: u32) -> Option<Self> {
        [Self::Replaced, Self::Altered, Self::Gone, Self::Forgotten]
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
            Self::Forgotten => {
                "was not known to its server for a while, and an image within an image cannot be opened again"
            }
        }
    }
}

/// What a look at a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// That it is as it was, or nothing.
    Nothing,
    /// Its name is not found.
    NoName,
    /// The server does not let us look.
    Refused,
    /// It is as it was by its name, and the server has not known it by its own.
    Stale,
    /// That it has changed.
    Is(Change),
}

/// What is believed of that: a name that is not found, or refused, counts only when there is no pause any more.
fn believed(mut look: impl FnMut() -> Seen, mut pause: impl FnMut() -> bool) -> Seen {
    loop {
        match look() {
            Seen::NoName | Seen::Refused if pause() => {}
            seen => return seen,
        }
    }
}

/// A file that is watched.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    file: File,
    /// The same, opened again.
    again: Mutex<Option<Arc<File>>>,
    /// Since when the server has hidden it, from whoever looks.
    hidden: Mutex<Option<Instant>>,
    /// Whether it is what is read, and not a medium's image with that in it.
    is_read: bool,
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
            again: Mutex::default(),
            hidden: Mutex::default(),
            is_read: false,
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
            again: Mutex::default(),
            hidden: Mutex::default(),
            is_read: false,
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

    /// The same for who reads `file`: that may be what is watched, or something in it.
    #[must_use]
    pub(crate) fn of_reads_from(mut self, file: &File) -> Self {
        // What is known without asking the server, which may not know it.
        let place = |file: &File| {
            let found = sys::stat(file.as_fd(), c"", false).ok()?;
            Some((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
        };
        self.is_read = place(file).is_some_and(|found| place(&self.file) == Some(found));
        self
    }

    /// What is to be read instead of the file that was opened first, if it was opened again.
    pub(crate) fn instead(&self) -> Option<Arc<File>> {
        self.again().clone().filter(|_| self.is_read)
    }

    /// Whether what has been read is of the file that was opened, or is to be read once more.
    ///
    /// # Errors
    /// It is another one, or the server cannot say.
    pub(crate) fn verify(&self) -> io::Result<bool> {
        if let Some(change) = self.changed() {
            return Err(error(change));
        }
        match self.own_stamp() {
            Ok((found, _)) if found == self.first => Ok(true),
            Err(error) if !is_hidden(&error) => Err(error),
            // What it was is seen by its name.
            found => match (self.look(), self.changed(), found) {
                (_, Some(change), _) => Err(error(change)),
                (Seen::Refused, None, Err(error)) => Err(error),
                (_, None, Err(_)) => Ok(false),
                // It had changed a moment ago, whatever its name says now.
                (_, None, Ok(_)) => Err(error(Change::Altered)),
            },
        }
    }

    fn changed(&self) -> Option<Change> {
        Change::of(self.change.load(Ordering::Relaxed))
    }

    fn again(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stamp of the file that is open.
    fn own_stamp(&self) -> io::Result<(Stamp, u32)> {
        let again = self.again().clone();
        stamp(again.as_deref().unwrap_or(&self.file), c"")
    }

    /// Look for it, and note what has become of it.
    fn look(&self) -> Seen {
        let seen = believed(|| self.seen(), || self.pauses());
        if !matches!(seen, Seen::NoName | Seen::Refused) {
            self.is_seen();
        }
        match seen {
            Seen::Nothing | Seen::Refused => {}
            Seen::NoName => self.note(Change::Gone),
            Seen::Is(change) => self.note(change),
            Seen::Stale if self.is_read => self.open_again(),
            Seen::Stale => self.note(Change::Forgotten),
        }
        seen
    }

    /// What one look tells.
    fn seen(&self) -> Seen {
        // What the folder holds is asked for only if that seems old.
        let by_name = stamp(&self.folder, c"").and_then(|_| stamp(&self.folder, &self.name));
        let [first, ..] = self.first.0;
        match (by_name, self.own_stamp()) {
            (Ok((Stamp([inode, ..]), _)), _) if inode != first => Seen::Is(Change::Replaced),
            (Ok((found, _)), Err(error)) if found == self.first && is_stale(&error) => Seen::Stale,
            // A server that caches names may still know it by its own.
            (_, Ok((_, 0))) => Seen::Is(Change::Gone),
            (Ok((found, _)), _) | (_, Ok((found, _))) if found != self.first => {
                Seen::Is(Change::Altered)
            }
            (Err(error), _) if is_gone(&error) => Seen::NoName,
            (Err(error), _) | (_, Err(error)) if is_hidden(&error) => Seen::Refused,
            (Err(error), _) | (_, Err(error)) => {
                log::debug!("looking for '{}': {error}", self.path.display());
                Seen::Nothing
            }
            _ => Seen::Nothing,
        }
    }

    /// The server hides it. Waits for a while; but for all who look only so long, for they wait one after the other.
    pub(crate) fn pauses(&self) -> bool {
        let hidden = self.hidden.lock();
        let since = *hidden
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(Instant::now);
        let is_over = since.elapsed() >= HIDDEN;
        if !is_over {
            std::thread::sleep(AGAIN);
        }
        !is_over
    }

    /// The server shows it.
    pub(crate) fn is_seen(&self) {
        *self.hidden.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Open it again by its name, if it is as it was. Who comes second finds it open.
    fn open_again(&self) {
        let mut again = self.again();
        let known = stamp(again.as_deref().unwrap_or(&self.file), c"");
        if known.is_err_and(|error| is_stale(&error)) {
            self.open_by_name(&mut again);
        }
    }

    /// The same after a read of what `instead` gave has failed, and the file is as it was: when a server restarts, and
    /// refuses at first what it had let us have, Linux's client gives up each descriptor that was open (NFS 4,
    /// nfs4_state_mark_recovery_failed). Whether there is another one to read.
    pub(crate) fn renew(&self, failed: Option<&Arc<File>>) -> bool {
        if !self.is_read {
            return false;
        }
        let mut again = self.again();
        match (again.as_ref(), failed) {
            (None, None) => self.open_by_name(&mut again),
            (Some(open), Some(failed)) if Arc::ptr_eq(open, failed) => {
                self.open_by_name(&mut again)
            }
            // Somebody else has opened it meanwhile.
            _ => true,
        }
    }

    fn open_by_name(&self, again: &mut Option<Arc<File>>) -> bool {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let opened = openat(&self.folder, self.name.as_c_str(), flags, Mode::empty());
        let opened = opened.map_err(io::Error::from).and_then(|file| {
            let file = File::from(file);
            Ok((stamp(&file, c"")?.0, file))
        });
        match opened {
            Ok((found, file)) if found == self.first => {
                *again = Some(Arc::new(file));
                log::warn!(
                    "the base '{}' was not known to its server for a while; it is there as it was, and read on",
                    self.path.display()
                );
                true
            }
            // The next look tells.
            Ok(_) => false,
            Err(error) => {
                log::debug!("opening '{}' again: {error}", self.path.display());
                false
            }
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
        use Seen::{Is, NoName, Nothing, Refused, Stale};
        for (missed, then) in [
            (0, Nothing),
            (1, Nothing),
            (1, Stale),
            (2, Is(Change::Replaced)),
            (0, Is(Change::Altered)),
            (6, Refused),
            (6, Stale),
            (6, NoName),
        ] {
            let looks = std::iter::repeat_n(NoName, missed).chain([then]);
            let (mut left, mut paused) = (looks.clone(), 0);
            let pause = || {
                paused += 1;
                paused <= 6
            };
            let found = believed(|| left.next().unwrap(), pause);
            assert_eq!((found, paused.min(6)), (then, missed), "{looks:?}");
            assert!(left.next().is_none(), "{looks:?}");
        }
    }

    #[test]
    fn what_is_hidden_for_long_makes_nobody_wait_again_until_it_is_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let watch = watched(file.path());
        *watch.hidden.lock().unwrap() = Instant::now().checked_sub(HIDDEN);
        assert!(!watch.pauses());
        watch.look();
        assert!(watch.hidden.lock().unwrap().is_none(), "it is there");
    }

    #[test]
    fn a_descriptor_that_was_given_up_is_opened_again_once_and_only_for_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base");
        fs::write(&path, b"old").unwrap();
        let watch = watched(&path);
        let other = tempfile::tempfile().unwrap();
        assert!(
            !watched(&path).of_reads_from(&other).renew(None),
            "read through another"
        );
        let watch = watch.of_reads_from(&File::open(&path).unwrap());
        assert!(watch.instead().is_none());
        assert!(watch.renew(None));
        let first = watch.instead().unwrap();
        // Whoever failed with the one before.
        assert!(watch.renew(None));
        assert!(Arc::ptr_eq(&first, &watch.instead().unwrap()));
        assert!(watch.renew(Some(&first)));
        assert!(!Arc::ptr_eq(&first, &watch.instead().unwrap()));
        fs::rename(&path, folder.path().join("old")).unwrap();
        fs::write(&path, b"new").unwrap();
        assert!(!watch.renew(watch.instead().as_ref()));
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
