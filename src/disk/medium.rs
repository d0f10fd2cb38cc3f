//! A persistent cowfile under a device: its reads, writes, syncs and growth, each by threads of its own.
//!
//! Reads and writes go past the page cache where the file system lets them. So each write says itself how it
//! ended, and the cowfile's data is not in RAM twice. Syncs run one at a time, those within a growth among
//! them: a medium that has dropped what was written says so once, and the engine has to hear of it.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::cowfile::{CowFiles, Mode};
use super::uninterrupted;
use super::workers::{Finished, Job, Lane, PageBuffer};
use crate::engine::command::{CommandId, Span};
use crate::engine::format::page::Origin;
use crate::engine::units::{CHUNK_BYTES, CHUNK_LEN};
use crate::sys::SharedSource;

/// Threads for each kind of work.
pub(super) const LANES: [(Lane, usize); 5] = [
    (Lane::Base, super::READERS),
    (Lane::Read, super::READERS),
    (Lane::Write, 2),
    (Lane::Sync, 1),
    (Lane::Grow, 1),
];

/// Bytes that one call writes at most.
const LONGEST: usize = 4 << 20;
/// Parts that one call takes (IOV_MAX of Linux).
const MOST_PARTS: usize = 1024;

const WRITING: &str = "writing the cowfile";
const SYNCING: &str = "syncing the cowfile";

/// A persistent cowfile's files, and how they are used.
#[derive(Debug)]
pub struct Medium {
    files: Arc<Files>,
    /// Used by the thread that grows it, and holds the lock.
    growing: Arc<Mutex<CowFiles>>,
    origin: Origin,
    turn: Arc<Turn>,
    /// What is written from.
    staging: SharedSource,
    /// Writes that were asked for and not begun.
    writes: Vec<Write>,
    /// Files written to since their last sync, by number.
    touched: BTreeSet<usize>,
}

/// The files that slots are in, each opened once for reads and writes.
#[derive(Debug)]
struct Files {
    file_bytes: u64,
    open: RwLock<Vec<Arc<File>>>,
}

/// One sync at a time.
#[derive(Debug, Default)]
struct Turn {
    /// A sync within a growth failed, and whoever syncs next has to know.
    failed: Mutex<bool>,
    /// Growing ends at its next step.
    stop: AtomicBool,
}

#[derive(Debug)]
struct Write {
    id: CommandId,
    offset: u64,
    from: Range<usize>,
}

impl Medium {
    /// Use the files of a cowfile that was recovered; `staging` is the memory its writes come from.
    ///
    /// # Errors
    /// A file cannot be opened a second time.
    pub fn new(files: CowFiles, origin: Origin, staging: SharedSource) -> io::Result<Self> {
        let open: Vec<_> = files
            .files()
            .iter()
            .map(|file| again(file, files.mode()).map(Arc::new))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            // What was found may be in no more than a cache.
            touched: (0..open.len()).collect(),
            files: Arc::new(Files {
                file_bytes: u64::from(files.file_slots()) * CHUNK_BYTES,
                open: RwLock::new(open),
            }),
            growing: Arc::new(Mutex::new(files)),
            origin,
            turn: Arc::default(),
            staging,
            writes: Vec::new(),
        })
    }

    pub(super) fn stop(&self) {
        self.turn.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn read(&self, id: CommandId, offset: u64, mut buffer: PageBuffer) -> Job {
        let files = Arc::clone(&self.files);
        Box::new(move |tell| {
            let result = files.read(buffer.bytes_mut(), offset);
            tell(Finished {
                id,
                doing: "reading the cowfile",
                offset,
                bytes: Some(buffer),
                result,
            });
        })
    }

    pub(super) fn collect(&mut self, id: CommandId, offset: u64, from: Span) {
        let from = from.start..from.start + from.len;
        self.writes.push(Write { id, offset, from });
    }

    /// The writes that were collected, in ascending order, those next to each other together.
    pub(super) fn take_writes(&mut self) -> Vec<Job> {
        let mut writes = std::mem::take(&mut self.writes);
        writes.sort_unstable_by_key(|write| write.offset);
        let mut groups: Vec<Vec<Write>> = Vec::new();
        let file_bytes = self.files.file_bytes;
        for write in writes {
            match groups.last_mut() {
                Some(group) if joins(group, &write, file_bytes) => group.push(write),
                _ => groups.push(vec![write]),
            }
        }
        let job = |group| -> Job {
            let (files, staging) = (Arc::clone(&self.files), self.staging.clone());
            Box::new(move |tell| write(&files, &staging, group, tell))
        };
        groups.into_iter().map(job).collect()
    }

    pub(super) fn sync(&mut self, id: CommandId) -> Job {
        let touched = std::mem::take(&mut self.touched);
        let (files, turn) = (Arc::clone(&self.files), Arc::clone(&self.turn));
        Box::new(move |tell| {
            let result = turn.sync(&files, touched);
            tell(Finished {
                id,
                doing: SYNCING,
                offset: 0,
                bytes: None,
                result: result.map(|()| 0),
            });
        })
    }

    pub(super) fn grow(&self, id: CommandId, offset: u64, len: u64) -> Job {
        let (files, turn) = (Arc::clone(&self.files), Arc::clone(&self.turn));
        let (growing, origin) = (Arc::clone(&self.growing), self.origin);
        let slot = |bytes: u64| u32::try_from(bytes / CHUNK_BYTES).unwrap_or(u32::MAX);
        let (from, to) = (slot(offset), slot(offset + len));
        Box::new(move |tell| {
            let mut growing = growing.lock().unwrap_or_else(PoisonError::into_inner);
            files.forget(from);
            let grown = growing.grow(from, to, origin, &mut |file, _| turn.step(file));
            let result = grown.and_then(|()| files.add(&growing)).map(|()| 0);
            tell(Finished {
                id,
                doing: "growing the cowfile",
                offset,
                bytes: None,
                result,
            });
        })
    }

    /// A command has ended.
    pub(super) fn heard(&mut self, doing: &'static str, offset: u64, result: &io::Result<usize>) {
        if doing == WRITING {
            self.touched.extend(self.files.number(offset));
        } else if doing == SYNCING && result.is_err() {
            // What of it is durable, nobody knows.
            self.touched.extend(0..self.files.open().len());
        }
    }
}

impl Files {
    fn open(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<File>>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that has the byte at `offset`.
    fn number(&self, offset: u64) -> Option<usize> {
        usize::try_from(offset / self.file_bytes).ok()
    }

    /// The file that has the byte at `offset`, and where in it.
    fn at(&self, offset: u64) -> io::Result<(Arc<File>, u64)> {
        let number = self.number(offset);
        let file = number.and_then(|number| self.open().get(number).cloned());
        let file = file.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((file, offset % self.file_bytes))
    }

    /// Nothing from this slot on is in use; files that begin there may be made anew, others under the same names.
    fn forget(&self, from: u32) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let first = (u64::from(from) * CHUNK_BYTES).div_ceil(self.file_bytes);
        open.truncate(usize::try_from(first).unwrap_or(usize::MAX));
    }

    /// Open what a growth has added.
    fn add(&self, growing: &CowFiles) -> io::Result<()> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        for file in growing.files().get(open.len()..).unwrap_or_default() {
            open.push(Arc::new(again(file, growing.mode())?));
        }
        Ok(())
    }

    fn read(&self, mut into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while !into.is_empty() {
            let (file, within) = self.at(offset + done as u64)?;
            let left = usize::try_from(self.file_bytes - within).unwrap_or(usize::MAX);
            let (here, rest) = into.split_at_mut(left.min(into.len()));
            let read = uninterrupted(|| file.read_at(here, within))?;
            done += read;
            if read < here.len() {
                break;
            }
            into = rest;
        }
        Ok(done)
    }
}

impl Turn {
    /// Sync files, unless a sync before failed that nobody has heard of.
    fn sync(&self, files: &Files, touched: BTreeSet<usize>) -> io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *failed) {
            return Err(io::Error::other("a sync before it failed"));
        }
        let open: Vec<_> = files.open().clone();
        let files = touched.into_iter().filter_map(|number| open.get(number));
        // All of them, whatever the first says: an error is told once.
        let results: Vec<_> = files
            .map(|file| uninterrupted(|| file.sync_data()))
            .collect();
        results.into_iter().collect()
    }

    /// Sync a file within a growth.
    fn step(&self, file: &File) -> io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let result = uninterrupted(|| file.sync_all());
        *failed |= result.is_err();
        match self.stop.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the device is being detached")),
            false => result,
        }
    }
}

/// Whether a write goes on where a group of them ends, in the same file.
fn joins(group: &[Write], write: &Write, file_bytes: u64) -> bool {
    let (Some(first), Some(last)) = (group.first(), group.last()) else {
        return false;
    };
    let len = write.offset - first.offset + write.from.len() as u64;
    last.offset + last.from.len() as u64 == write.offset
        && first.offset / file_bytes == write.offset / file_bytes
        && len <= LONGEST as u64
        && group.len() < MOST_PARTS
}

/// Write a group. Each of its writes has an outcome of its own.
fn write(files: &Files, staging: &SharedSource, group: Vec<Write>, tell: &dyn Fn(Finished)) {
    let mut left = group.as_slice();
    while let Some(first) = left.first() {
        let parts: Vec<_> = left.iter().map(|write| write.from.clone()).collect();
        let result = files
            .at(first.offset)
            .and_then(|(file, at)| uninterrupted(|| staging.write_at(&parts, &file, at)));
        let (mut done, mut error) = match result {
            Ok(done) => (done, None),
            Err(error) => (0, Some(error)),
        };
        // Those that are whole, and the one where it stopped: the engine asks for the rest of that.
        while let Some((write, rest)) = left.split_first() {
            let here = done.min(write.from.len());
            let is_whole = here == write.from.len();
            let result = match error.take() {
                Some(error) => Err(error),
                None => Ok(here),
            };
            tell(Finished {
                id: write.id,
                doing: WRITING,
                offset: write.offset,
                bytes: None,
                result,
            });
            (done, left) = (done - here, rest);
            if !is_whole || done == 0 {
                break;
            }
        }
    }
}

/// A second descriptor of a file that goes past the page cache, or through it where the file system wants that.
fn again(file: &File, mode: Mode) -> io::Result<File> {
    let open = |flags| {
        OpenOptions::new()
            .read(true)
            .write(mode == Mode::Write)
            .custom_flags(flags)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
    };
    let direct = open(libc::O_DIRECT).and_then(|file| {
        let mut buffer = PageBuffer::default();
        buffer.set_len(CHUNK_LEN);
        match file.read_at(buffer.bytes_mut(), 0) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(error),
            // What does not read there is no matter of how it is read.
            _ => Ok(file),
        }
    });
    match direct {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            log::info!("the cowfile's file system has no direct I/O; going through the page cache");
            open(0)
        }
        opened => opened,
    }
}

#[cfg(test)]
#[path = "medium_tests.rs"]
mod tests;
