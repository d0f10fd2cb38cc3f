//! Where on its device a file lies (FS_IOC_FIEMAP of <linux/fs.h> and <linux/fiemap.h>; the kernel's
//! Documentation/filesystems/fiemap.rst).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Extents that one call asks for.
const COUNT: usize = 64;
const FIEMAP_FLAG_SYNC: u32 = 1;
const FIEMAP_EXTENT_LAST: u32 = 1;
const FIEMAP_EXTENT_UNKNOWN: u32 = 2;
/// What the device has there is not what the file has: unknown, not allocated yet, encoded, within or beside other
/// content, or never written.
const NOT_AS_IT_IS: u32 = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800;

/// `struct fiemap`, with room for extents.
#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [RawExtent; COUNT],
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_2: [u32; 3],
}

/// The size in its number is that of the structure without extents.
const HEAD_BYTES: usize = std::mem::offset_of!(Request, extents);
const _: () = assert!(HEAD_BYTES == 32 && size_of::<RawExtent>() == 56);
nix::ioctl_readwrite_bad!(
    fiemap,
    nix::request_code_readwrite!(b'f', 11, HEAD_BYTES),
    Request
);

/// Bytes of a file that are on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where they begin in the file.
    pub offset: u64,
    /// And on the device.
    pub place: u64,
    /// How many.
    pub bytes: u64,
    /// The device has them there just as the file has them.
    pub is_plain: bool,
}

/// Make what was written to `file` durable, and call `each` with where that is on its device, in the order of the
/// file, until it says `false`. What has no place yet is left out.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTTY` where the file system cannot tell; or what it meets.
pub fn extents(file: &File, each: &mut dyn FnMut(Extent) -> bool) -> io::Result<()> {
    let mut start = 0;
    loop {
        let mut request = Request {
            start,
            length: u64::MAX - start,
            flags: FIEMAP_FLAG_SYNC,
            mapped: 0,
            count: u32::try_from(COUNT).unwrap_or(0),
            reserved: 0,
            extents: [RawExtent::default(); COUNT],
        };
        // SAFETY: the descriptor is open, and the kernel writes at most `count` extents into the live local, which has room
        // for as many.
        unsafe { fiemap(file.as_raw_fd(), &raw mut request) }?;
        let mapped = usize::try_from(request.mapped).unwrap_or(0).min(COUNT);
        for raw in request.extents.iter().take(mapped) {
            let extent = Extent {
                offset: raw.logical,
                place: raw.physical,
                bytes: raw.length,
                is_plain: raw.flags & NOT_AS_IT_IS == 0,
            };
            if raw.flags & FIEMAP_EXTENT_UNKNOWN == 0 && !each(extent) {
                return Ok(());
            }
            let end = raw.logical.saturating_add(raw.length);
            if raw.flags & FIEMAP_EXTENT_LAST != 0 || end <= start {
                return Ok(());
            }
            start = end;
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
    fn a_file_tells_where_it_lies_or_that_it_cannot() {
        let mut file = tempfile::tempfile_in(".").unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        let mut bytes = 0;
        let told = extents(&file, &mut |extent| {
            assert_eq!(extent.offset, bytes);
            bytes += extent.bytes;
            true
        });
        match told {
            Ok(()) => assert!(bytes >= 100_000, "{bytes}"),
            // Not each file system of a test machine can.
            Err(error) => assert!(matches!(
                error.raw_os_error(),
                Some(libc::ENOTTY | libc::EOPNOTSUPP)
            )),
        }
    }
}
