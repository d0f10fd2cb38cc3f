//! The probe against images made by the real tools, and against bytes nobody made.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use super::*;

/// Run a tool; if it is not there the test fails saying what installs it.
fn run(package: &str, command: &[&str], folder: &Path) {
    let output = Command::new(command[0])
        .args(&command[1..])
        .current_dir(folder)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; install it: apt-get install {package}",
                command[0]
            )
        });
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
}

fn content(kind: &'static str, label: Option<&str>, uuid: Option<&str>) -> Content {
    Content {
        kind,
        label: label.map(str::to_owned),
        uuid: uuid.map(str::to_owned),
    }
}

const UUID: &str = "11111111-2222-3333-4444-555555555555";

/// package | MiB | command, `$U` stands for [`UUID`] | type | label | UUID
const IMAGES: &str = "
e2fsprogs      |   8 | mke2fs -q -t ext2 -L lab -U $U image          | ext2     | lab  | $U
e2fsprogs      |   8 | mke2fs -q -t ext3 -L lab -U $U image          | ext3     | lab  | $U
e2fsprogs      |   8 | mke2fs -q -t ext4 -L lab -U $U image          | ext4     | lab  | $U
e2fsprogs      |   8 | mke2fs -q -t ext4 -U clear image              | ext4     |      |
xfsprogs       | 320 | mkfs.xfs -q -L lab -m uuid=$U image           | xfs      | lab  | $U
btrfs-progs    | 128 | mkfs.btrfs -q -L lab -U $U image              | btrfs    | lab  | $U
dosfstools     |   4 | mkfs.vfat -F12 -n LAB -i 1A2B3C4D image       | vfat     | LAB  | 1A2B-3C4D
dosfstools     |  20 | mkfs.vfat -F16 -n LAB -i 1A2B3C4D image       | vfat     | LAB  | 1A2B-3C4D
dosfstools     |  64 | mkfs.vfat -F32 -n LAB -i 1A2B3C4D image       | vfat     | LAB  | 1A2B-3C4D
dosfstools     |  64 | mkfs.vfat -F32 -i 00000000 image              | vfat     |      |
squashfs-tools |   0 | mksquashfs d image -quiet -no-progress        | squashfs |      |
erofs-utils    |   0 | mkfs.erofs -U $U image d                      | erofs    |      | $U
util-linux     |   1 | mkswap -q -L lab -U $U image                  | swap     | lab  | $U
xorriso        |   0 | xorriso -as mkisofs -quiet -R -V LIVE --modification-date=2026112308300000 -o image d | iso9660 | LIVE | 2026-11-23-08-30-00-00
";

#[test]
fn every_file_system_is_seen_as_blkid_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("d")).unwrap();
    std::fs::write(folder.path().join("d/a"), "content").unwrap();
    for line in IMAGES.trim().lines() {
        let line = line.replace("$U", UUID);
        let [package, mega, command, kind, label, uuid] = line
            .split('|')
            .map(str::trim)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        let image = folder.path().join("image");
        let _ = std::fs::remove_file(&image);
        let size_bytes = mega.parse::<u64>().unwrap() << 20;
        if size_bytes > 0 {
            File::create(&image).unwrap().set_len(size_bytes).unwrap();
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        run(package, &words, folder.path());
        let found = probe(&File::open(&image).unwrap()).expect(command);
        let found = (found.kind, found.label, found.uuid);
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        assert_eq!(found, (kind, named(label), named(uuid)), "{command}");
    }
}

/// What a few dozen bytes must look like to be taken for a format; filled with `fill` elsewhere.
fn skeleton(format: &Format, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; 0x10000 + 4096];
    let at = usize::try_from(format.offset).unwrap();
    bytes[at..at + format.magic.len()].copy_from_slice(format.magic);
    bytes
}

#[test]
fn luks_and_exfat_and_f2fs_show_their_names() {
    let mut luks = vec![0; 4096];
    luks[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
    luks[24..27].copy_from_slice(b"lab");
    luks[168..204].copy_from_slice(UUID.as_bytes());
    assert_eq!(
        probe(&luks),
        Some(content("crypto_LUKS", Some("lab"), Some(UUID)))
    );
    luks[7] = 1;
    assert_eq!(probe(&luks), Some(content("crypto_LUKS", None, Some(UUID))));

    let mut exfat = vec![0; 1 << 20];
    exfat[3..11].copy_from_slice(b"EXFAT   ");
    exfat[88] = 100; // the cluster heap's first sector
    exfat[96] = 4; // the root directory's cluster: the third of the heap
    exfat[100..104].copy_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
    exfat[108] = 9;
    exfat[109] = 3;
    let root = (100 + (2 << 3)) * 512;
    exfat[root] = 0x81;
    exfat[root + 32..root + 40].copy_from_slice(b"\x83\x03l\0a\0b\0");
    assert_eq!(
        probe(&exfat),
        Some(content("exfat", Some("lab"), Some("1A2B-3C4D")))
    );

    let mut f2fs = vec![0; 4096];
    f2fs[1024..1028].copy_from_slice(b"\x10\x20\xf5\xf2");
    f2fs[1024 + 108..1024 + 124].copy_from_slice(&[0x11; 16]);
    f2fs[1024 + 124..1024 + 130].copy_from_slice(b"l\0a\0b\0");
    assert_eq!(
        probe(&f2fs),
        Some(content(
            "f2fs",
            Some("lab"),
            Some("11111111-1111-1111-1111-111111111111")
        ))
    );
}

#[test]
fn a_boot_sector_with_partitions_is_no_fat() {
    let mut disk = vec![0; 4096];
    disk[..3].copy_from_slice(b"\xeb\x63\x90");
    disk[446 + 4] = 0x83;
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(probe(&disk), None);
}

#[test]
fn nothing_is_found_in_nothing() {
    assert_eq!(probe(&Vec::new()), None);
    assert_eq!(probe(&vec![0; 1 << 20]), None);
    assert_eq!(probe(&vec![0xff; 1 << 20]), None);
}

#[test]
fn hostile_bytes_never_panic_whatever_their_magic_promises() {
    let mut random = fastrand::Rng::with_seed(3);
    for format in FORMATS {
        for fill in [0x00, 0xff, 0x01, 0x80] {
            let _ = probe(&skeleton(format, fill));
        }
        for round in 0..400 {
            let mut bytes = skeleton(format, if round % 2 == 0 { 0 } else { random.u8(..) });
            let at = usize::try_from(format.offset).unwrap();
            for _ in 0..random.usize(1..200) {
                let near = at.saturating_sub(512) + random.usize(0..2048);
                if let Some(byte) = bytes.get_mut(near)
                    && !(at..at + format.magic.len()).contains(&near)
                {
                    *byte = random.u8(..);
                }
            }
            if round % 3 == 0 {
                bytes.truncate(random.usize(0..bytes.len()));
            }
            let _ = probe(&bytes);
        }
    }
}

#[test]
fn an_iso_says_how_large_it_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "content").unwrap();
    let words = "xorriso -as mkisofs -quiet -no-pad -partition_offset 16 -o image a";
    let words: Vec<&str> = words.split(' ').collect();
    run("xorriso", &words, folder.path());
    let image = std::fs::read(folder.path().join("image")).unwrap();
    let partition = image[16 * 2048..].to_vec();
    assert_eq!(iso_bytes(&image), Some(image.len() as u64));
    assert_eq!(iso_bytes(&partition), Some(partition.len() as u64));
    assert_eq!(iso_bytes(&vec![0; 1 << 16]), None);
}
