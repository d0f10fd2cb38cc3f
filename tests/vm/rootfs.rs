//! The file systems a root can have: the busybox root's tree as an image of each.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

use crate::cache::sorted;
use crate::command::{command, output, run};

/// What is in root.img.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RootFs {
    /// ext4 as small as it can be.
    Ext4,
    /// The same, and only the first half of it: a download that ended early.
    Ext4Cut,
    /// The same with one bit of its superblock turned.
    Ext4Damaged,
    /// ext4 with room to fill.
    Ext4Large,
    /// ext4 with blocks of 1 KiB, and these bytes more than a multiple of 4 KiB.
    Ext4Blocks1k(u64),
    Ext2,
    Xfs,
    /// XFS with sectors of 512 bytes.
    Xfs512,
    Btrfs,
    F2fs,
}

impl RootFs {
    /// The image's size, for a tree that takes `tree_bytes`.
    fn bytes(self, tree_bytes: u64) -> u64 {
        let mib = |mib: u64| mib << 20;
        match self {
            Self::Ext4 | Self::Ext4Cut | Self::Ext4Damaged => {
                mib(24) + tree_bytes.next_multiple_of(4096)
            }
            Self::Ext4Blocks1k(odd) => mib(32) + odd,
            Self::Ext2 => mib(32),
            Self::F2fs => mib(128),
            // mkfs.xfs makes none below 300 MB.
            Self::Xfs | Self::Xfs512 => mib(320),
            Self::Ext4Large | Self::Btrfs => mib(256),
        }
    }

    /// Makes a file system with `tree` in it at `out`.
    pub(crate) fn make(self, tree: &Path, tree_bytes: u64, out: &Path) -> Result<()> {
        fs::File::create(out)?.set_len(self.bytes(tree_bytes))?;
        let ext = |words: &[&str]| {
            let common = ["-q", "-F", "-L", "MINIROOT", "-E", "root_owner=0:0"];
            let mut mke2fs = command("mke2fs");
            mke2fs.args(common).args(words).arg("-d").arg(tree).arg(out);
            output(&mut mke2fs).map(drop)
        };
        match self {
            Self::Ext4Cut => {
                Self::Ext4.make(tree, tree_bytes, out)?;
                let file = fs::File::options().write(true).open(out)?;
                Ok(file.set_len(file.metadata()?.len() / 2)?)
            }
            Self::Ext4Damaged => {
                Self::Ext4.make(tree, tree_bytes, out)?;
                let file = fs::File::options().write(true).open(out)?;
                // The last byte of the volume's name: only the checksum tells.
                Ok(file.write_all_at(&[1], 1024 + 0x78 + 15)?)
            }
            Self::Ext4 | Self::Ext4Large => ext(&["-t", "ext4", "-b", "4096"]),
            Self::Ext4Blocks1k(_) => ext(&["-t", "ext4", "-b", "1024"]),
            Self::Ext2 => ext(&["-t", "ext2"]),
            Self::Xfs => xfs(&[], tree, out),
            Self::Xfs512 => xfs(&["-s", "size=512"], tree, out),
            Self::Btrfs => {
                let mut mkfs = command("mkfs.btrfs");
                mkfs.args(["-q", "-f", "--rootdir"]).arg(tree).arg(out);
                output(&mut mkfs).map(drop)
            }
            Self::F2fs => {
                run("mkfs.f2fs", ["-q".as_ref(), out.as_os_str()])?;
                let mut sload = command("sload.f2fs");
                output(sload.arg("-P").arg("-f").arg(tree).arg(out)).map(drop)
            }
        }
    }
}

/// An XFS, by the prototype file that mkfs.xfs can fill one from.
fn xfs(words: &[&str], tree: &Path, out: &Path) -> Result<()> {
    let mut prototype = tempfile::NamedTempFile::new()?;
    writeln!(prototype, "/dev/null\n0 0\nd--755 0 0\n{}$", entries(tree)?)?;
    let mut mkfs = command("mkfs.xfs");
    mkfs.args(["-q", "-L", "MINIROOT"])
        .args(words)
        .arg("-p")
        .arg(prototype.path())
        .arg(out);
    output(&mut mkfs).map(drop)
}

/// A folder's content in a prototype file's words, its end included.
fn entries(dir: &Path) -> Result<String> {
    let mut lines = String::new();
    for path in sorted(dir)? {
        let name = path.file_name().context("a file's name")?.to_string_lossy();
        let kind = fs::symlink_metadata(&path)?;
        let mode = kind.permissions().mode() & 0o777;
        if kind.is_symlink() {
            let target = fs::read_link(&path)?;
            lines += &format!("{name} l--777 0 0 {}\n", target.display());
        } else if kind.is_dir() {
            lines += &format!("{name} d--{mode:o} 0 0\n{}", entries(&path)?);
        } else {
            lines += &format!("{name} ---{mode:o} 0 0 {}\n", path.display());
        }
    }
    Ok(lines + "$\n")
}
