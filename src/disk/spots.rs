//! Where on its device a cowfile's superblocks are, so that they are read without its file system: to look into that one
//! changes it, where it has a journal to replay.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::engine::command::Failure;
use crate::engine::cowfile::recover::Medium;
use crate::engine::format::Shape;
use crate::engine::format::superblock;
use crate::sys::{self, Extent};

/// Slots of the two zones that begin with a superblock.
fn slots() -> u32 {
    let [_, second] = superblock::slots(Shape::PRODUCT);
    second.saturating_mul(2)
}

/// The places on its device of the zones of `file` that begin with its superblocks.
///
/// # Errors
/// Its file system cannot tell.
pub fn of(file: &File) -> io::Result<Vec<Extent>> {
    let end = Shape::PRODUCT.offset_bytes(slots());
    let mut found = Vec::new();
    sys::extents(file, &mut |extent| {
        let is_before = extent.offset < end;
        found.extend((extent.is_plain && is_before).then_some(extent));
        is_before
    })?;
    Ok(found)
}

/// The superblocks of a cowfile, read from the device that its file lies on.
#[derive(Debug)]
pub struct Spots<'a> {
    /// The device.
    pub device: &'a File,
    /// Where on it they are.
    pub extents: &'a [Extent],
}

impl Medium for Spots<'_> {
    fn slots(&mut self) -> u32 {
        slots()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        let mut offset = Shape::PRODUCT.offset_bytes(slot);
        let mut left = into;
        while !left.is_empty() {
            let holds = |extent: &&Extent| {
                let end = extent.offset.saturating_add(extent.bytes);
                (extent.offset..end).contains(&offset)
            };
            let extent = self.extents.iter().find(holds).ok_or(Failure::Io)?;
            let within = offset - extent.offset;
            let len = usize::try_from(extent.bytes - within).unwrap_or(usize::MAX);
            let (part, rest) = left.split_at_mut(len.min(left.len()));
            let place = extent.place.saturating_add(within);
            let read = self.device.read_exact_at(part, place);
            read.map_err(|_| Failure::Io)?;
            offset = offset.saturating_add(part.len() as u64);
            left = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_put_together_from_its_places() {
        let mut device = tempfile::tempfile().unwrap();
        let byte = |at: u32| u8::try_from(at >> 8).unwrap();
        let bytes: Vec<u8> = (0..64 << 10).map(byte).collect();
        io::Write::write_all(&mut device, &bytes).unwrap();
        let extent = |offset, place, bytes| Extent {
            offset,
            place,
            bytes,
            is_plain: true,
        };
        let extents = [extent(0, 40_960, 4096), extent(4096, 8192, 8192)];
        let mut spots = Spots {
            device: &device,
            extents: &extents,
        };
        let mut read = vec![0; 12_288];
        spots.read(0, &mut read).unwrap();
        assert_eq!(read[..4096], bytes[40_960..][..4096]);
        assert_eq!(read[4096..], bytes[8192..][..8192]);
        assert_eq!(spots.read(0, &mut vec![0; 12_289]), Err(Failure::Io));
        assert_eq!(spots.read(1024, &mut [0]), Err(Failure::Io));
    }

    #[test]
    fn a_file_system_says_where_its_bytes_are_or_that_it_cannot() {
        let file = tempfile::tempfile_in(".").unwrap();
        file.write_all_at(&[7; 8192], 0).unwrap();
        // Not each file system of a test machine can.
        if let Ok(extents) = of(&file) {
            let bytes: u64 = extents.iter().map(|extent| extent.bytes).sum();
            assert!(bytes >= 8192, "{extents:?}");
            assert_eq!(extents[0].offset, 0);
        }
    }
}
