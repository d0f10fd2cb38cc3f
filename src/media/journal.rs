//! How large a file system's own journal is: that much is written in time, however full the disk.

use super::text::ReadAt;

/// Bytes of the journal in the file system that `bytes` begins with; `None` where it has none inside.
pub fn journal_bytes(bytes: &dyn ReadAt) -> Option<u64> {
    xfs(bytes).or_else(|| ext(bytes))
}

fn xfs(bytes: &dyn ReadAt) -> Option<u64> {
    if bytes.bytes(0)? != *b"XFSB" {
        return None;
    }
    let log_start = u64::from_be_bytes(bytes.bytes(48)?);
    let block_bytes = u64::from(u32::from_be_bytes(bytes.bytes(4)?));
    let blocks = u64::from(u32::from_be_bytes(bytes.bytes(96)?));
    (log_start != 0).then(|| blocks.saturating_mul(block_bytes))
}

/// The superblock has a copy of the journal's inode: fifteen words, and its size.
fn ext(bytes: &dyn ReadAt) -> Option<u64> {
    const SUPERBLOCK: u64 = 1024;
    const HAS_JOURNAL: u32 = 0x4;
    const COPY_OF_INODE: u8 = 1;
    if bytes.bytes(SUPERBLOCK + 0x38)? != [0x53, 0xef] {
        return None;
    }
    let [kind] = bytes.bytes(SUPERBLOCK + 0xfd)?;
    let has_journal = bytes.le32(SUPERBLOCK + 0x5c)? & HAS_JOURNAL != 0;
    let copy = SUPERBLOCK + 0x10c + 15 * 4;
    let (high, low) = (bytes.le32(copy)?, bytes.le32(copy + 4)?);
    (has_journal && kind == COPY_OF_INODE).then_some(u64::from(high) << 32 | u64::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_has_the_size_its_superblock_says() {
        let mut image = vec![0u8; 4096];
        assert_eq!(journal_bytes(&image), None);
        image[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
        image[1024 + 0x10c + 64..1024 + 0x10c + 68].copy_from_slice(&(4u32 << 20).to_le_bytes());
        image[1024 + 0xfd] = 1;
        assert_eq!(journal_bytes(&image), None, "ext2");
        image[1024 + 0x5c] = 0x4;
        assert_eq!(journal_bytes(&image), Some(4 << 20));
        image[0..4].copy_from_slice(b"XFSB");
        image[4..8].copy_from_slice(&4096u32.to_be_bytes());
        image[55] = 1;
        image[96..100].copy_from_slice(&16384u32.to_be_bytes());
        assert_eq!(journal_bytes(&image), Some(64 << 20));
        image.truncate(50);
        assert_eq!(journal_bytes(&image), None, "cut off");
    }
}
