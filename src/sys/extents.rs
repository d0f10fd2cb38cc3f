//! Where on its device a file's bytes are (FS_IOC_FIEMAP of <linux/fs.h> and <linux/fiemap.h>).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Extents that one call asks for.
const MOST: usize = 64;

const FIEMAP_FLAG_SYNC: u32 = 1;
const FIEMAP_EXTENT_LAST: u32 = 1;
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
    extents: [RawExtent; MOST],
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy)]
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

/// Bytes of a file that are on its device just as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where they begin in the file.
    pub offset: u64,
    /// And on the device.
    pub place: u64,
    /// How many.
    pub bytes: u64,
}

/// Where the first `bytes` of a file are on its device, once they are durable; what is not there as it is is left out.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTTY` where the file system cannot tell.
pub fn extents(file: &File, bytes: u64) -> io::Result<Vec<Extent>> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < bytes {
        let mut request = Request {
            start,
            length: bytes - start,
            flags: FIEMAP_FLAG_SYNC,
            mapped: 0,
            count: u32::try_from(MOST).unwrap_or(0),
            reserved: 0,
            extents: [RawExtent {
                logical: 0,
                physical: 0,
                length: 0,
                reserved: [0; 2],
                flags: 0,
                reserved_2: [0; 3],
            }; MOST],
        };
        // SAFETY: the descriptor is open, and the kernel writes at most `count` extents into the live local, which has room
        // for as many.
        unsafe { fiemap(file.as_raw_fd(), &raw mut request) }?;
        let mapped = usize::try_from(request.mapped).unwrap_or(0);
        let mapped = request.extents.get(..mapped.min(MOST)).unwrap_or_default();
        let as_they_are = mapped.iter().filter(|raw| raw.flags & NOT_AS_IT_IS == 0);
        found.extend(as_they_are.map(|raw| Extent {
            offset: raw.logical,
            place: raw.physical,
            bytes: raw.length,
        }));
        let Some(last) = mapped.last() else { break };
        let end = last.logical.saturating_add(last.length);
        if last.flags & FIEMAP_EXTENT_LAST != 0 || end <= start {
            break;
        }
        start = end;
    }
    Ok(found)
}
