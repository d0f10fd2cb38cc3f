//! What a server says of a file: what tells one version of it from another, or that it hides it.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use crate::sys;

/// What tells a file and its content from others: inode, size, when it was modified, and when anything of it was
/// changed (seconds and nanoseconds each).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub [u64; 6]);

pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ESTALE | libc::ENOTDIR)
    )
}

/// Whether the server hides the file: it does not know it, or does not let us have it.
pub(crate) fn is_hidden(error: &io::Error) -> bool {
    let refused = error.kind() == io::ErrorKind::PermissionDenied;
    refused || is_stale(error)
}

pub(super) fn is_stale(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESTALE)
}

/// The stamp of a file in `folder`, or of the descriptor itself, and how many names it has, as the server says now.
pub(super) fn stamp(folder: &File, name: &CStr) -> io::Result<(Stamp, u32)> {
    let found = sys::stat(folder.as_fd(), name, true)?;
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
