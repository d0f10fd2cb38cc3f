//! A cowfile in a tmpfs: nothing waits, and holes give their RAM back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, fallocate};

use super::uninterrupted;
use super::workers::{Finished, Job};
use crate::engine::command::{Action, Buffers, CommandId};

/// A file in a tmpfs.
#[derive(Debug)]
pub struct Ram(Arc<File>);

impl Ram {
    /// Use this file, which may be empty.
    #[must_use]
    pub fn new(file: File) -> Self {
        Self(Arc::new(file))
    }

    /// Read or write at once: what was done, where, and how it ended.
    pub(super) fn run(
        &self,
        action: Action,
        buffers: &mut impl Buffers,
    ) -> (&'static str, u64, io::Result<usize>) {
        match action {
            Action::ReadCow { offset, into } => {
                let result = uninterrupted(|| self.0.read_at(buffers.bytes_mut(into), offset));
                ("reading the cowfile", offset, result)
            }
            Action::WriteCow { offset, from } => {
                let result = uninterrupted(|| self.0.write_at(buffers.bytes(from), offset));
                ("writing the cowfile", offset, result)
            }
            // A volatile store asks for nothing else.
            _ => {
                let unsupported = io::ErrorKind::Unsupported.into();
                ("using the cowfile", 0, Err(unsupported))
            }
        }
    }

    /// Give a stretch back.
    pub(super) fn punch(&self, id: CommandId, offset: u64, len: u64) -> Job {
        let file = Arc::clone(&self.0);
        Box::new(move |tell| {
            tell(Finished {
                id,
                doing: "giving back space of the cowfile",
                offset,
                bytes: None,
                result: punch(&file, offset, len).map(|()| 0),
            });
        })
    }
}

fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let (offset, len) = (
        i64::try_from(offset).map_err(invalid)?,
        i64::try_from(len).map_err(invalid)?,
    );
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    uninterrupted(|| Ok(fallocate(file, flags, offset, len)?))
}
