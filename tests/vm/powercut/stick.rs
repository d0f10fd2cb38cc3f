//! The stick whose power is cut: a partition for the cowfile, and a small one for the marker.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;

use crate::command::{command, output, run_with_input};

const SECTOR: u64 = 512;

/// Where the first partition begins, and its size.
const START: u64 = 1 << 20;
const SIZE: u64 = 64 << 20;
/// Where the marker's partition begins, and its size.
pub(super) const MARKER: u64 = START + SIZE;
const MARKER_SIZE: u64 = 1 << 20;

/// What the cowfile is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Ext4,
    Vfat,
    Exfat,
    /// A partition without a file system, which is the cowfile.
    Raw,
}

impl On {
    /// As mount and the guest scripts call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Vfat => "vfat",
            Self::Exfat => "exfat",
            Self::Raw => "raw",
        }
    }

    /// Makes the program's words that make it; clusters as on real sticks.
    fn mkfs(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["mke2fs", "-q", "-F", "-t", "ext4"],
            Self::Vfat => &["mkfs.fat", "-F", "32", "-s", "8"],
            Self::Exfat => &["mkfs.exfat", "-c", "32K"],
            Self::Raw => &["true"],
        }
    }
}

/// A new stick at `path`.
pub(super) fn make(on: On, path: &Path) -> Result<()> {
    let stick = fs::File::create(path)?;
    stick.set_len(MARKER + MARKER_SIZE)?;
    let [start, size, marker, marker_size] =
        [START, SIZE, MARKER, MARKER_SIZE].map(|bytes| bytes / SECTOR);
    let script = format!(
        "label: dos\nstart={start}, size={size}, type=c\nstart={marker}, size={marker_size}, type=da\n"
    );
    run_with_input("sfdisk", ["--quiet".as_ref(), path.as_os_str()], &script)?;
    let inner = tempfile::NamedTempFile::new()?;
    inner.as_file().set_len(SIZE)?;
    if let [program, words @ ..] = on.mkfs() {
        output(command(program).args(words).arg(inner.path()))?;
    }
    stick.write_all_at(&fs::read(inner.path())?, START)?;
    Ok(())
}

/// The number in the marker, if one was ever written.
pub(super) fn marker(stick: &[u8]) -> Option<u64> {
    let bytes = stick.get(usize::try_from(MARKER).ok()?..)?;
    let text = String::from_utf8_lossy(bytes.get(..16)?).into_owned();
    text.split_once('\n')?.0.trim().parse().ok()
}

/// The base: an ext4 with the witness, and something to read.
pub(super) fn make_base(path: &Path) -> Result<()> {
    let tree = tempfile::tempdir()?;
    fs::create_dir(tree.path().join("w"))?;
    fs::write(tree.path().join("witness"), format!("{:015}\n", 0))?;
    let mut random = vec![0; 8 << 20];
    fastrand::Rng::with_seed(7).fill(&mut random);
    fs::write(tree.path().join("random"), random)?;
    fs::File::create(path)?.set_len(32 << 20)?;
    let words = [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-E",
        "root_owner=0:0",
        "-d",
    ];
    output(command("mke2fs").args(words).arg(tree.path()).arg(path)).map(drop)
}
