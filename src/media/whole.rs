//! Whether a file system is all there: a download or a copy that ended early is the commonest damage,
//! and the kernel's word for it is "Invalid argument".

use anyhow::bail;
use std::io::{Seek, SeekFrom};

use super::text::{ReadAt, size};

/// Look whether `file` is as long as the file system of type `kind` in it says.
///
/// # Errors
/// It is shorter, and the kernel would refuse it. It mounts an ISO all the same: that is a warning.
pub fn check(file: &std::fs::File, kind: &str) -> anyhow::Result<()> {
    let mut end = file;
    // Seeking tells the size of a block device too. Where it fails, so will the mount, which says why.
    let Ok(there_bytes) = end.seek(SeekFrom::End(0)) else {
        return Ok(());
    };
    match said_bytes(file, kind) {
        Some(said_bytes) if said_bytes > there_bytes => {
            let text = format!(
                "the {kind} in it says that it has {} ({said_bytes} bytes), and only {} \
                 ({there_bytes} bytes) are there: the download or the copy ended early; make it again",
                size(said_bytes),
                size(there_bytes)
            );
            if kind != "iso9660" {
                bail!(text);
            }
            log::warn!("{text}");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The size that a file system's superblock says.
fn said_bytes(bytes: &dyn ReadAt, kind: &str) -> Option<u64> {
    let (blocks, block_bytes) = match kind {
        "ext2" | "ext3" | "ext4" => ext(bytes)?,
        "xfs" => (
            u64::from_be_bytes(bytes.bytes(8)?),
            u64::from(u32::from_be_bytes(bytes.bytes(4)?)),
        ),
        "squashfs" => (bytes.le64(40)?, 1),
        // The primary volume descriptor.
        "iso9660" => (
            u64::from(bytes.le32(0x8000 + 80)?),
            u64::from(bytes.le16(0x8000 + 128)?),
        ),
        _ => return None,
    };
    blocks.checked_mul(block_bytes)
}

fn ext(bytes: &dyn ReadAt) -> Option<(u64, u64)> {
    const SUPERBLOCK: u64 = 1024;
    const IS_64BIT: u32 = 0x80;
    let low = u64::from(bytes.le32(SUPERBLOCK + 0x4)?);
    let is_64bit = bytes.le32(SUPERBLOCK + 0x60)? & IS_64BIT != 0;
    let high = if is_64bit {
        u64::from(bytes.le32(SUPERBLOCK + 0x150)?)
    } else {
        0
    };
    let block_bytes = 1024u64.checked_shl(bytes.le32(SUPERBLOCK + 0x18)?)?;
    Some((high << 32 | low, block_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_as_large_as_its_superblock_says() {
        let mut image = vec![0u8; 0x9000];
        let mut put = |offset: usize, bytes: &[u8]| {
            image[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        put(1024 + 0x4, &100u32.to_le_bytes());
        put(1024 + 0x18, &2u32.to_le_bytes());
        put(1024 + 0x60, &0x80u32.to_le_bytes());
        put(1024 + 0x150, &1u32.to_le_bytes());
        put(4, &512u32.to_be_bytes());
        put(8, &7u64.to_be_bytes());
        put(40, &12345u64.to_le_bytes());
        put(0x8000 + 80, &9u32.to_le_bytes());
        put(0x8000 + 128, &2048u16.to_le_bytes());
        for (kind, bytes) in [
            ("ext4", Some(((1 << 32) + 100) * 4096)),
            ("xfs", Some(7 * 512)),
            ("squashfs", Some(12345)),
            ("iso9660", Some(9 * 2048)),
            ("vfat", None),
        ] {
            assert_eq!(said_bytes(&image, kind), bytes, "{kind}");
        }
    }

    #[test]
    fn what_is_cut_short_is_refused_but_an_iso_is_not() {
        let file = tempfile::tempfile().unwrap();
        let put = |offset: u64, bytes: &[u8]| {
            std::os::unix::fs::FileExt::write_all_at(&file, bytes, offset).unwrap();
        };
        put(40, &0x9001u64.to_le_bytes());
        put(0x8000 + 80, &100u32.to_le_bytes());
        put(0x8000 + 128, &2048u16.to_le_bytes());
        file.set_len(0x9000).unwrap();
        let error = check(&file, "squashfs").unwrap_err().to_string();
        assert!(error.contains("ended early"), "{error}");
        check(&file, "iso9660").unwrap();
        file.set_len(0x9001).unwrap();
        check(&file, "squashfs").unwrap();
    }

    #[test]
    fn a_superblock_that_lies_is_no_arithmetic() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let image: Vec<u8> = (0..2048).map(|_| random.u8(..)).collect();
            for kind in ["ext4", "xfs", "squashfs", "iso9660"] {
                let _ = said_bytes(&image, kind);
            }
        }
    }
}
