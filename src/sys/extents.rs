//! Where a file lies on its file system's device (FIEMAP, the kernel's Documentation/filesystems/fiemap.rst).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Extents that are asked for at a time.
const COUNT: usize = 64;
/// The last one of the file.
const LAST: u32 = 0x1;
/// It is not known where it lies, or not yet anywhere.
const UNKNOWN: u32 = 0x2;

/// `struct fiemap_extent` of <linux/fiemap.h>.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct RawExtent {
    logical: u64,
    physical: u64,
    len: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_too: [u32; 3],
}

/// `struct fiemap` there, with room for some extents.
#[repr(C)]
#[derive(Debug)]
struct Fiemap {
    start: u64,
    len: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [RawExtent; COUNT],
}

// _IOWR('f', 11, struct fiemap), without its extents.
nix::ioctl_readwrite_bad!(fiemap, nix::request_code_readwrite!(b'f', 11, 32), Fiemap);

/// Call `each` with the start and end of each stretch of the device that `file` has, until it says `false`.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` of a file system that does not tell; or what it meets.
pub fn extents(file: &File, each: &mut dyn FnMut(u64, u64) -> bool) -> io::Result<()> {
    let mut start = 0;
    loop {
        let mut map = Fiemap {
            start,
            len: u64::MAX - start,
            flags: 0,
            mapped: 0,
            count: u32::try_from(COUNT).unwrap_or(0),
            reserved: 0,
            extents: [RawExtent::default(); COUNT],
        };
        // SAFETY: the descriptor is open; the kernel writes to the live local, and no more extents than `count`.
        unsafe { fiemap(file.as_raw_fd(), &raw mut map) }?;
        let mapped = usize::try_from(map.mapped).unwrap_or(0).min(COUNT);
        for extent in map.extents.iter().take(mapped) {
            let end = extent.physical.saturating_add(extent.len);
            if extent.flags & UNKNOWN == 0 && !each(extent.physical, end) {
                return Ok(());
            }
            let next = extent.logical.saturating_add(extent.len);
            if extent.flags & LAST != 0 || next <= start {
                return Ok(());
            }
            start = next;
        }
        if mapped < COUNT {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<RawExtent>(), 56);
        assert_eq!(std::mem::offset_of!(Fiemap, extents), 32);
    }

    #[test]
    fn a_file_tells_where_it_lies_or_that_it_cannot() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        file.sync_all().unwrap();
        let mut bytes = 0;
        match extents(&file, &mut |start, end| {
            bytes += end - start;
            true
        }) {
            Ok(()) => assert!(bytes >= 100_000, "{bytes}"),
            Err(error) => assert!(matches!(
                error.raw_os_error(),
                Some(libc::ENOTTY | libc::EOPNOTSUPP)
            )),
        }
    }
}
