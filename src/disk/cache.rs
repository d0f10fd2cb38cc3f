//! What the kernel is told of a file's page cache. Only advice: nothing that it may ignore matters.

use std::fs::File;
use std::io;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// So much of a stretch the kernel begins to read at a call: its limit is that of a request to the device.
const STEP: usize = 512 << 10;

/// A stretch is read soon.
pub(super) fn will_read(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
    for at in (0..len).step_by(STEP) {
        let step = (len - at).min(STEP as u64);
        advise(file, (offset.saturating_add(at), step), advice)?;
    }
    Ok(())
}

/// The largest piece of a file that the kernel keeps as one. It keeps one that is named in part.
const LARGEST: u64 = 2 << 20;

/// A stretch is not to be taken from the cache when it is read next; all of the file was synced.
pub(super) fn forget(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let start = offset - offset % LARGEST;
    let end = offset
        .saturating_add(len)
        .div_ceil(LARGEST)
        .saturating_mul(LARGEST);
    let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    advise(file, (start, end - start), advice)
}

fn advise(file: &File, (offset, len): (u64, u64), advice: PosixFadviseAdvice) -> io::Result<()> {
    let signed = |number: u64| i64::try_from(number).map_err(io::Error::other);
    Ok(posix_fadvise(file, signed(offset)?, signed(len)?, advice)?)
}
