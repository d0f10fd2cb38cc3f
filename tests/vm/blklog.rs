//! What QEMU's `blklogwrites` recorded of a disk: each write and each flush, in the order in which they were sent.
//!
//! The format is that of Linux's dm-log-writes, little-endian, in sectors of 512 bytes: a superblock (magic, version,
//! number of entries, sector size), then entries (sector, sectors, flags, length of a mark), each a sector long and
//! followed by the data that was written. The number of entries is stale after a kill, so nobody looks at it: the
//! first entry that is all zeros ends the log, as the file's end does.
//!
//! ```text
//! let mut log = blklog::read(path)?;
//! while let Some(entry) = log.next().transpose()? { … log.content(&entry, &mut buffer)? … }
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const SECTOR: u64 = 512;

/// `jsfwshr`, and the version.
const MAGIC: [u64; 2] = [0x006a_7366_7773_6872, 1];

/// Bits of an entry's flags.
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where on the disk it begins.
    pub(crate) at: u64,
    /// How much it writes; a flush writes nothing.
    pub(crate) bytes: u64,
    /// All that was completed before it is durable when it is.
    pub(crate) is_flush: bool,
    /// Its content is forgotten. Nothing of it is in the log.
    pub(crate) is_discard: bool,
    /// Where the log has what it writes.
    from: u64,
}

/// A log, read entry by entry; what was written stays in the file until [`Log::content`] is asked for it.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    end: u64,
    next: u64,
}

/// Opens a log.
pub(crate) fn read(path: &Path) -> Result<Log> {
    let file = File::open(path).with_context(|| format!("opening '{}'", path.display()))?;
    let log = Log {
        end: file.metadata()?.len(),
        file,
        next: SECTOR,
    };
    let [magic, version, _, _] = log.words(0)?;
    ensure!(
        [magic, version] == MAGIC,
        "'{}' is no log of writes",
        path.display()
    );
    Ok(log)
}

impl Log {
    /// What an entry writes, in place of what `buffer` has.
    pub(crate) fn content(&self, entry: &Entry, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.resize(usize::try_from(entry.bytes)?, 0);
        Ok(self.file.read_exact_at(buffer, entry.from)?)
    }

    fn words(&self, offset: u64) -> Result<[u64; 4]> {
        let mut words = [0; 4];
        for (word, at) in words.iter_mut().zip((offset..).step_by(8)) {
            let mut bytes = [0; 8];
            self.file.read_exact_at(&mut bytes, at)?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(words)
    }

    fn entry(&mut self) -> Result<Option<Entry>> {
        if self.next + SECTOR > self.end {
            return Ok(None);
        }
        let [sector, sectors, flags, _] = self.words(self.next)?;
        if [sector, sectors, flags] == [0; 3] {
            return Ok(None);
        }
        let is_discard = flags & DISCARD != 0;
        let entry = Entry {
            at: sector * SECTOR,
            bytes: if is_discard { 0 } else { sectors * SECTOR },
            is_flush: flags & FLUSH != 0,
            is_discard,
            from: self.next + SECTOR,
        };
        self.next = entry.from + entry.bytes;
        // Killed while it was being logged.
        Ok((self.next <= self.end).then_some(entry))
    }
}

impl Iterator for Log {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entry().transpose()
    }
}
