//! Memory that several mappings, or several processes, share through a memfd.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Map `bytes` bytes of `memory` from `offset` on, shared and writable.
///
/// # Errors
/// `EINVAL` for zero bytes, an offset that is no page's, or a `memory` that is shorter; else what mmap says.
fn map(memory: &File, offset: u64, bytes: usize) -> io::Result<NonNull<libc::c_void>> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let length = NonZeroUsize::new(bytes).ok_or_else(invalid)?;
    let end = offset.checked_add(bytes as u64).ok_or_else(invalid)?;
    if memory.metadata()?.len() < end {
        return Err(invalid());
    }
    let offset = libc::off_t::try_from(offset).map_err(|_| invalid())?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice; nothing else refers to it.
    let address = unsafe {
        mmap(
            None,
            length,
            protection,
            MapFlags::MAP_SHARED,
            memory.as_fd(),
            offset,
        )
    }?;
    Ok(address)
}

/// Memory shared between processes through a descriptor, as 32-bit words.
///
/// The words are little-endian nowhere but in the machine: they never reach a disk.
#[derive(Debug)]
pub struct SharedWords {
    address: NonNull<AtomicU32>,
    words: usize,
}

// SAFETY: the memory is reached only through atomics, which any thread may use at any time.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Map `words` words of `memory` (a memfd at least that long), shared and writable.
    ///
    /// # Errors
    /// `EINVAL` for zero words or a `memory` that is shorter; else what mmap says.
    pub fn map(memory: &File, words: usize) -> io::Result<Self> {
        let bytes = words.checked_mul(size_of::<AtomicU32>());
        let bytes = bytes.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let address = map(memory, 0, bytes)?;
        Ok(Self {
            address: address.cast(),
            words,
        })
    }
}

impl std::ops::Deref for SharedWords {
    type Target = [AtomicU32];

    fn deref(&self) -> &[AtomicU32] {
        // SAFETY: the mapping is `words` words long, page-aligned, lives as long as self, and is never
        // shrunk: whoever holds the descriptor is another cowroot process.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.words) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped, and no reference outlives self. Failure would only leak.
        let _ = unsafe { munmap(self.address.cast(), self.words * size_of::<AtomicU32>()) };
    }
}

/// A mapping, given back when nobody has it any more.
#[derive(Debug)]
struct Mapping {
    address: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its memory, which belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: what is done through a shared reference goes through system calls that take no reference.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped, and no reference outlives self. Failure would only leak.
        let _ = unsafe { munmap(self.address.cast(), self.bytes) };
    }
}

/// Memory shared through a descriptor, as bytes that one owner reads and changes.
#[derive(Debug)]
pub struct SharedBytes(Arc<Mapping>);

/// The same bytes, for others: they can only be handed to the kernel.
#[derive(Debug, Clone)]
pub struct SharedSource(Arc<Mapping>);

impl SharedBytes {
    /// Map `bytes` bytes of `memory` (a memfd at least that long) from `offset` on, shared and writable. The
    /// same bytes must not be mapped by anybody else who uses them.
    ///
    /// # Errors
    /// `EINVAL` for zero bytes, an offset that is no page's, or a `memory` that is shorter; else what mmap says.
    pub fn map(memory: &File, offset: u64, bytes: usize) -> io::Result<Self> {
        let address = map(memory, offset, bytes)?.cast();
        Ok(Self(Arc::new(Mapping { address, bytes })))
    }

    /// The same bytes, for threads that write them to files.
    #[must_use]
    pub fn source(&self) -> SharedSource {
        SharedSource(Arc::clone(&self.0))
    }
}

impl SharedSource {
    /// Write parts of the memory, one behind the other, to `file` at `offset` (pwritev). Says how many bytes
    /// were written, which may be fewer. Bytes that their owner changes meanwhile are written as before or as
    /// after.
    ///
    /// # Errors
    /// `EINVAL` if a part is not within the memory; else what pwritev says.
    pub fn write_at(&self, parts: &[Range<usize>], file: &File, offset: u64) -> io::Result<usize> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let mut vectors = Vec::with_capacity(parts.len());
        for part in parts {
            if part.start > part.end || part.end > self.0.bytes {
                return Err(invalid());
            }
            vectors.push(libc::iovec {
                // SAFETY: the part's start lies within the mapping, as was just compared.
                iov_base: unsafe { self.0.address.add(part.start) }.as_ptr().cast(),
                iov_len: part.end - part.start,
            });
        }
        let count = libc::c_int::try_from(vectors.len()).map_err(|_| invalid())?;
        let offset = libc::off_t::try_from(offset).map_err(|_| invalid())?;
        // SAFETY: each vector lies within the mapping, which outlives the call; the kernel only reads.
        let written = unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), count, offset) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }
}

impl std::ops::Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is `bytes` long, lives as long as self and is never shrunk; only its one owner,
        // who holds self, changes it.
        unsafe { std::slice::from_raw_parts(self.0.address.as_ptr(), self.0.bytes) }
    }
}

impl std::ops::DerefMut for SharedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; self is held exclusively, and a source makes no references.
        unsafe { std::slice::from_raw_parts_mut(self.0.address.as_ptr(), self.0.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::Ordering;

    #[test]
    fn shared_words_are_the_files_bytes() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let words = SharedWords::map(&file, 1024).unwrap();
        words[1].store(7, Ordering::Release);
        let again = SharedWords::map(&file, 1024).unwrap();
        assert_eq!(again[1].load(Ordering::Acquire), 7);
        assert!(
            SharedWords::map(&file, 1025).is_err(),
            "longer than its memory"
        );
        assert!(SharedWords::map(&file, 0).is_err());
    }

    #[test]
    fn shared_bytes_are_written_in_the_order_asked_for() {
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(3 * 4096).unwrap();
        let mut bytes = SharedBytes::map(&memory, 4096, 8192).unwrap();
        bytes[..3].copy_from_slice(b"abc");
        bytes[8190..].copy_from_slice(b"yz");
        let other = bytes.source();
        let file = tempfile::tempfile().unwrap();
        assert_eq!(other.write_at(&[8190..8192, 0..3], &file, 10).unwrap(), 5);
        let mut read = [0; 5];
        file.read_exact_at(&mut read, 10).unwrap();
        assert_eq!(&read, b"yzabc");
        assert!(other.write_at(&[0..1, 8190..8193], &file, 0).is_err());
        assert!(SharedBytes::map(&memory, 8192, 8192).is_err(), "too long");
        assert!(SharedBytes::map(&memory, 1, 4096).is_err(), "no page");
    }
}
