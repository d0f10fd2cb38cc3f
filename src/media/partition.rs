//! What a partition is called: PARTUUID and PARTLABEL from a GPT or an MBR, in blkid's spelling.
//!
//! Only read, and only for a partition that the kernel has found: what is asked is the name of
//! number N, not where it lies.

use super::text::{ReadAt, guid, name_utf16};

/// The names of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionNames {
    /// GPT: the partition's GUID. MBR: the disk's id and the number, `1a2b3c4d-01`.
    pub uuid: Option<String>,
    /// GPT only.
    pub label: Option<String>,
}

/// The names of partition `number` (from 1) of `disk`, whose sectors have `sector_bytes`.
pub fn names(disk: &dyn ReadAt, number: u32, sector_bytes: u64) -> Option<PartitionNames> {
    gpt(disk, number, sector_bytes).or_else(|| mbr(disk, number))
}

/// Whether `disk` carries a partition table.
pub fn has_table(disk: &dyn ReadAt, sector_bytes: u64) -> bool {
    disk.bytes::<8>(sector_bytes) == Some(*b"EFI PART")
        || (disk.bytes::<2>(510) == Some([0x55, 0xaa])
            && (0..4).any(|slot| mbr_slot_in_use(disk, slot)))
}

fn gpt(disk: &dyn ReadAt, number: u32, sector_bytes: u64) -> Option<PartitionNames> {
    if disk.bytes::<8>(sector_bytes)? != *b"EFI PART" {
        return None;
    }
    let table = disk.le64(sector_bytes + 72)?.checked_mul(sector_bytes)?;
    let entries = disk.le32(sector_bytes + 80)?;
    let entry_bytes = u64::from(disk.le32(sector_bytes + 84)?);
    if number == 0 || number > entries || entry_bytes < 128 {
        return None;
    }
    let entry = table.checked_add(u64::from(number - 1) * entry_bytes)?;
    let is_in_use = disk.bytes::<16>(entry)? != [0; 16];
    is_in_use.then_some(())?;
    Some(PartitionNames {
        uuid: guid(disk.bytes(entry.checked_add(16)?)?),
        label: name_utf16(&disk.bytes::<72>(entry.checked_add(56)?)?),
    })
}

/// The MBR names a partition by the disk's id and its number; logical ones start at 5.
fn mbr(disk: &dyn ReadAt, number: u32) -> Option<PartitionNames> {
    if disk.bytes::<2>(510)? != [0x55, 0xaa] || !(0..4).any(|slot| mbr_slot_in_use(disk, slot)) {
        return None;
    }
    let id = disk.le32(440)?;
    (id != 0 && number > 0).then(|| PartitionNames {
        uuid: Some(format!("{id:08x}-{number:02x}")),
        label: None,
    })
}

/// A slot counts if its flag is one of two values, its type is set and it has a length.
fn mbr_slot_in_use(disk: &dyn ReadAt, slot: u64) -> bool {
    let at = 446 + slot * 16;
    let Some([flag, _, _, _, kind]) = disk.bytes::<5>(at) else {
        return false;
    };
    matches!(flag, 0 | 0x80) && kind != 0 && disk.le32(at + 12).is_some_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with_mbr() -> Vec<u8> {
        let mut disk = vec![0; 8192];
        disk[440..444].copy_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        disk[446 + 4] = 0x83;
        disk[446 + 12] = 8;
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk
    }

    fn disk_with_gpt(sector_bytes: usize) -> Vec<u8> {
        let mut disk = vec![0; 64 << 10];
        let header = sector_bytes;
        disk[header..header + 8].copy_from_slice(b"EFI PART");
        disk[header + 72] = 2;
        disk[header + 80] = 128;
        disk[header + 84] = 128;
        let entry = 2 * sector_bytes + 128;
        disk[entry] = 1;
        for at in 0..16 {
            disk[entry + 16 + at] = u8::try_from(at).unwrap();
        }
        for (at, byte) in "live".bytes().enumerate() {
            disk[entry + 56 + 2 * at] = byte;
        }
        disk
    }

    #[test]
    fn an_mbr_partition_is_named_by_disk_and_number() {
        let disk = disk_with_mbr();
        for (number, uuid) in [(1, "1a2b3c4d-01"), (5, "1a2b3c4d-05"), (12, "1a2b3c4d-0c")] {
            let names = names(&disk, number, 512).unwrap();
            assert_eq!(names.uuid.as_deref(), Some(uuid));
        }
        assert!(has_table(&disk, 512));
    }

    #[test]
    fn a_boot_sector_without_partitions_is_no_table() {
        let mut disk = disk_with_mbr();
        disk[446 + 12] = 0;
        assert!(!has_table(&disk, 512));
        assert_eq!(names(&disk, 1, 512), None);
    }

    #[test]
    fn a_gpt_partition_has_a_guid_and_a_label_whatever_the_sector_size() {
        for sector_bytes in [512, 4096] {
            let disk = disk_with_gpt(sector_bytes);
            let names = |number| names(&disk, number, sector_bytes as u64);
            let second = names(2).unwrap();
            assert_eq!(
                second.uuid.as_deref(),
                Some("03020100-0504-0706-0809-0a0b0c0d0e0f")
            );
            assert_eq!(second.label.as_deref(), Some("live"));
            assert_eq!(names(1), None, "an empty entry has no name");
            assert_eq!(names(129), None, "beyond the table");
        }
    }

    #[test]
    fn hostile_tables_are_never_followed_off_the_disk() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut disk = disk_with_gpt(512);
            disk.truncate(random.usize(0..disk.len()));
            for _ in 0..20 {
                if let Some(byte) = disk.get_mut(512 + random.usize(0..96)) {
                    *byte = random.u8(..);
                }
            }
            let _ = names(&disk, random.u32(..), 512);
        }
    }
}
