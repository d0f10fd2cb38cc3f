//! What is on a block device or in a file: type, label and UUID in blkid's spelling.
//!
//! One table, one row per format: where its magic stands and what reads the rest. Every read may
//! fail and every number may lie: a medium is a stranger's bytes.

use super::text::{ReadAt, name, name_utf16, uuid};

/// What a medium or a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Type as blkid and mount name it: `ext4`, `iso9660`, `vfat`.
    pub kind: &'static str,
    /// The name its owner gave it.
    pub label: Option<String>,
    /// What tells it from every other.
    pub uuid: Option<String>,
}

impl Content {
    fn new(kind: &'static str, label: Option<String>, uuid: Option<String>) -> Option<Self> {
        Some(Self { kind, label, uuid })
    }
}

/// A format: `magic` at `offset`, and the function that reads the rest or finds it is not so.
struct Format {
    magic: &'static [u8],
    offset: u64,
    read: fn(&dyn ReadAt) -> Option<Content>,
}

const fn format(
    magic: &'static [u8],
    offset: u64,
    read: fn(&dyn ReadAt) -> Option<Content>,
) -> Format {
    Format {
        magic,
        offset,
        read,
    }
}

const EXT: u64 = 1024;
const F2FS: u64 = 1024;
const EROFS: u64 = 1024;
const SWAP: u64 = 1024;
const BTRFS: u64 = 0x10000;
/// The first volume descriptor; each takes 2 KiB.
const ISO: u64 = 0x8000;

/// In this order. ISO 9660 is last: its first 32 KiB belong to nobody, so an old one shines through
/// whatever was made on the medium later.
const FORMATS: &[Format] = &[
    format(b"LUKS\xba\xbe", 0, luks),
    format(b"SnAp", 0, |_| Content::new("DM_snapshot_cow", None, None)),
    format(b"XFSB", 0, xfs),
    format(b"hsqs", 0, |_| Content::new("squashfs", None, None)),
    format(b"EXFAT   ", 3, exfat),
    format(b"NTFS    ", 3, ntfs),
    format(b"\x55\xaa", 510, vfat),
    format(b"\xe2\xe1\xf5\xe0", EROFS, erofs),
    format(b"\x10\x20\xf5\xf2", F2FS, f2fs),
    format(b"\x53\xef", EXT + 0x38, ext),
    format(b"SWAPSPACE2", 4096 - 10, swap),
    format(b"SWAPSPACE2", 16384 - 10, swap),
    format(b"SWAPSPACE2", 65536 - 10, swap),
    format(b"_BHRfS_M", BTRFS + 0x40, btrfs),
    format(b"CD001", ISO + 1, iso9660),
];

/// What `bytes` holds, or `None` if no format is recognised.
pub fn probe(bytes: &dyn ReadAt) -> Option<Content> {
    FORMATS.iter().find_map(|format| {
        let mut found = [0; 16];
        let found = found.get_mut(..format.magic.len())?;
        bytes.fill(found, format.offset)?;
        (*found == *format.magic).then(|| (format.read)(bytes))?
    })
}

fn luks(bytes: &dyn ReadAt) -> Option<Content> {
    // Version 1 has no label; both versions spell the UUID as text.
    let label = if bytes.bytes::<2>(6)? == [0, 2] {
        name(&bytes.bytes::<48>(24)?)
    } else {
        None
    };
    Content::new("crypto_LUKS", label, name(&bytes.bytes::<40>(168)?))
}

fn xfs(bytes: &dyn ReadAt) -> Option<Content> {
    let label = name(&bytes.bytes::<12>(108)?);
    Content::new("xfs", label, uuid(bytes.bytes(32)?))
}

fn erofs(bytes: &dyn ReadAt) -> Option<Content> {
    let label = name(&bytes.bytes::<16>(EROFS + 64)?);
    Content::new("erofs", label, uuid(bytes.bytes(EROFS + 48)?))
}

fn f2fs(bytes: &dyn ReadAt) -> Option<Content> {
    let label = name_utf16(&bytes.bytes::<1024>(F2FS + 124)?);
    Content::new("f2fs", label, uuid(bytes.bytes(F2FS + 108)?))
}

fn btrfs(bytes: &dyn ReadAt) -> Option<Content> {
    let label = name(&bytes.bytes::<256>(BTRFS + 0x12b)?);
    Content::new("btrfs", label, uuid(bytes.bytes(BTRFS + 0x20)?))
}

fn swap(bytes: &dyn ReadAt) -> Option<Content> {
    let label = name(&bytes.bytes::<16>(SWAP + 28)?);
    Content::new("swap", label, uuid(bytes.bytes(SWAP + 12)?))
}

/// ext2, 3 and 4 share a superblock; the features that older drivers refuse tell them apart.
fn ext(bytes: &dyn ReadAt) -> Option<Content> {
    const HAS_JOURNAL: u32 = 0x4;
    const IS_JOURNAL: u32 = 0x8;
    const INCOMPAT_OF_EXT3: u32 = 0x2 | 0x4 | 0x10;
    const RO_COMPAT_OF_EXT3: u32 = 0x1 | 0x2 | 0x4;
    let compat = bytes.le32(EXT + 0x5c)?;
    let incompat = bytes.le32(EXT + 0x60)?;
    let ro_compat = bytes.le32(EXT + 0x64)?;
    let kind = if incompat & IS_JOURNAL != 0 {
        "jbd"
    } else if incompat & !INCOMPAT_OF_EXT3 != 0 || ro_compat & !RO_COMPAT_OF_EXT3 != 0 {
        "ext4"
    } else if compat & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    };
    let label = name(&bytes.bytes::<16>(EXT + 0x78)?);
    Content::new(kind, label, uuid(bytes.bytes(EXT + 0x68)?))
}

/// The volume's date is its UUID: `2026-11-23-08-30-00-00`. Modified wins over created, as in blkid.
fn iso9660(bytes: &dyn ReadAt) -> Option<Content> {
    const DATES: [u64; 2] = [830, 813];
    let at = iso_volume(bytes)?;
    let date = DATES
        .iter()
        .find_map(|date| iso9660_date(bytes.bytes(at + date)?));
    Content::new("iso9660", name(&bytes.bytes::<32>(at + 40)?), date)
}

/// How large the ISO 9660 file system that `bytes` begins with says it is.
pub fn iso_bytes(bytes: &dyn ReadAt) -> Option<u64> {
    const BLOCK_BYTES: u64 = 2048;
    Some(u64::from(bytes.le32(iso_volume(bytes)? + 80)?) * BLOCK_BYTES)
}

/// Where the descriptor is that says what an ISO 9660 volume is.
fn iso_volume(bytes: &dyn ReadAt) -> Option<u64> {
    const PRIMARY: u8 = 1;
    const END: u8 = 255;
    let mut at = ISO;
    loop {
        let [kind, magic @ ..] = bytes.bytes::<6>(at)?;
        if magic != *b"CD001" || kind == END || at > ISO + 16 * 2048 {
            return None;
        }
        if kind == PRIMARY {
            return Some(at);
        }
        at += 2048;
    }
}

fn iso9660_date(digits: [u8; 16]) -> Option<String> {
    let digits = std::str::from_utf8(&digits).ok()?;
    if digits.bytes().all(|digit| digit == b'0') || !digits.is_ascii() {
        return None;
    }
    let parts = [
        (0, 4),
        (4, 6),
        (6, 8),
        (8, 10),
        (10, 12),
        (12, 14),
        (14, 16),
    ];
    let parts: Option<Vec<&str>> = parts.iter().map(|&(a, b)| digits.get(a..b)).collect();
    Some(parts?.join("-"))
}

/// NTFS is only recognised: its label lies deep in the volume, and no base is expected there.
fn ntfs(bytes: &dyn ReadAt) -> Option<Content> {
    let serial = bytes.le64(0x48)?;
    Content::new("ntfs", None, Some(format!("{serial:016X}")))
}

fn fat_serial(serial: u32) -> Option<String> {
    (serial != 0).then(|| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff))
}

/// Label and UUID of exFAT; the label is an entry of the root directory's first cluster.
fn exfat(bytes: &dyn ReadAt) -> Option<Content> {
    const LABEL_ENTRY: u8 = 0x83;
    let [sector_shift, cluster_shift] = bytes.bytes::<2>(108)?;
    if !(9..=12).contains(&sector_shift) || cluster_shift > 25 - sector_shift {
        return None;
    }
    let heap_sectors = u64::from(bytes.le32(88)?);
    let root_cluster = u64::from(bytes.le32(96)?.checked_sub(2)?);
    let root = (heap_sectors + (root_cluster << cluster_shift)) << sector_shift;
    let entries = 1u64 << (sector_shift + cluster_shift - 5);
    let mut label = None;
    for entry in 0..entries.min(512) {
        let Some(entry) = bytes.bytes::<32>(root + entry * 32) else {
            break;
        };
        let [kind, length, text @ ..] = entry;
        if kind == 0 {
            break;
        }
        if kind == LABEL_ENTRY {
            label = name_utf16(text.get(..usize::from(length.min(11)) * 2)?);
            break;
        }
    }
    Content::new("exfat", label, fat_serial(bytes.le32(100)?))
}

/// FAT has no magic of its own: the boot sector's numbers must make sense, or an MBR would pass.
fn vfat(bytes: &dyn ReadAt) -> Option<Content> {
    let geometry = FatGeometry::read(bytes)?;
    let (label_at, serial_at) = if geometry.is_fat32 {
        (71, 67)
    } else {
        (43, 39)
    };
    let label = match geometry.root_label(bytes) {
        Some(label) => label,
        None => name(&bytes.bytes::<11>(label_at)?).filter(|label| label != "NO NAME"),
    };
    Content::new("vfat", label, fat_serial(bytes.le32(serial_at)?))
}

struct FatGeometry {
    is_fat32: bool,
    /// Where the root directory starts, in bytes.
    root: u64,
    /// How many entries of it to look at: for FAT32 those of its first cluster.
    root_entries: u64,
}

impl FatGeometry {
    fn read(bytes: &dyn ReadAt) -> Option<Self> {
        let sector_bytes = u64::from(bytes.le16(11)?);
        let [cluster_sectors] = bytes.bytes(13)?;
        let reserved = u64::from(bytes.le16(14)?);
        let [fats, _, _, _, _, media] = bytes.bytes::<6>(16)?;
        let root_entries = u64::from(bytes.le16(17)?);
        let short_fat_sectors = u64::from(bytes.le16(22)?);
        let plausible = sector_bytes.is_power_of_two()
            && (512..=4096).contains(&sector_bytes)
            && cluster_sectors.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&fats)
            && (media >= 0xf8 || media == 0xf0);
        if !plausible {
            return None;
        }
        let is_fat32 = short_fat_sectors == 0;
        let fat_sectors = if is_fat32 {
            u64::from(bytes.le32(36)?)
        } else {
            short_fat_sectors
        };
        let first_data = (reserved + u64::from(fats) * fat_sectors) * sector_bytes;
        if fat_sectors == 0 || is_fat32 == (root_entries > 0) {
            return None;
        }
        let cluster_bytes = u64::from(cluster_sectors) * sector_bytes;
        let root = if is_fat32 {
            first_data + u64::from(bytes.le32(44)?.checked_sub(2)?) * cluster_bytes
        } else {
            first_data
        };
        let root_entries = if is_fat32 {
            cluster_bytes / 32
        } else {
            root_entries
        };
        Some(Self {
            is_fat32,
            root,
            root_entries,
        })
    }

    /// The label in the root directory, which wins over the boot sector's: `Some(None)` if the
    /// directory could be read and has none.
    fn root_label(&self, bytes: &dyn ReadAt) -> Option<Option<String>> {
        const VOLUME: u8 = 0x08;
        const LONG_NAME: u8 = 0x0f;
        const DELETED: u8 = 0xe5;
        for entry in 0..self.root_entries {
            let entry: [u8; 32] = bytes.bytes(self.root + entry * 32)?;
            let [first, ..] = entry;
            let attributes = *entry.get(11)?;
            if first == 0 {
                break;
            }
            if first != DELETED && attributes & LONG_NAME != LONG_NAME && attributes & VOLUME != 0 {
                return Some(name(entry.get(..11)?));
            }
        }
        Some(None)
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
