//! What has to go before a session's files can come: a list beside the archive.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::compare::Change;
use super::walk::Found;

/// A list of paths, each ended by a NUL, as `xargs -0` takes it. Of what is gone with its folder only the folder is in it.
#[derive(Debug)]
pub struct Deletions<W> {
    list: W,
    last: Option<PathBuf>,
    count: u64,
}

impl<W: Write> Deletions<W> {
    /// An empty list.
    pub fn new(list: W) -> Self {
        Self {
            list,
            last: None,
            count: 0,
        }
    }

    /// Take down what is gone, or is in the way of what has come.
    ///
    /// # Errors
    /// What writing says.
    pub fn take(&mut self, found: &Found<'_>) -> io::Result<()> {
        if !matches!(found.change, Change::Deleted | Change::Kind) {
            return Ok(());
        }
        let is_below = |last: &PathBuf| found.path != last && found.path.starts_with(last);
        if self.last.as_ref().is_some_and(is_below) {
            return Ok(());
        }
        self.last = Some(found.path.to_owned());
        self.count += 1;
        self.list.write_all(bytes_of(found.path))?;
        self.list.write_all(&[0])
    }

    /// The list is complete; how many there are.
    ///
    /// # Errors
    /// What writing says.
    pub fn finish(mut self) -> io::Result<u64> {
        self.list.flush()?;
        Ok(self.count)
    }
}

/// A path as the file system has it.
pub(super) fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
