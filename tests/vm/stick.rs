//! Sticks that guests write to: an empty file system, or a partition, for cowfiles; and a disk with the tools that
//! try them: a Debian with mkfs and fsck of each kind, fio and fsx.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::apt::Apt;
use crate::cache::{Cache, Key};
use crate::command::{command, output, run, run_with_input, step};
use crate::root::{bed, debian_tar, write_into};

/// What a stick has when it is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stick {
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
    /// With room for more than one of its files can hold.
    VfatLarge,
    Exfat,
    /// One partition with nothing in it.
    Partition,
    /// One with ext4.
    Ext4InPartition,
}

/// Its label, or its partition's name.
const LABEL: &str = "COWROOT";

/// Its size.
const MIB: u64 = 768;
const LARGE_MIB: u64 = 6 << 10;

/// What the tools' disk has beyond what any Debian has.
const TOOLS: &[&str] = &[
    "fio",
    "sqlite3",
    "e2fsprogs",
    "xfsprogs",
    "btrfs-progs",
    "dosfstools",
    "exfatprogs",
    "kexec-tools",
];

/// The file system exerciser, from crates.io.
const FSX: &str = "fsx@0.3.2";

impl Stick {
    /// Makes a new one.
    pub(crate) fn make(self, out: &Path) -> Result<()> {
        let mib = match self {
            Self::VfatLarge => LARGE_MIB,
            _ => MIB,
        };
        File::create(out)?.set_len(mib << 20)?;
        let words: &[&str] = match self {
            Self::Ext4 => &["mke2fs", "-q", "-F", "-t", "ext4", "-L", LABEL],
            Self::Xfs => &["mkfs.xfs", "-q", "-L", LABEL],
            Self::Btrfs => &["mkfs.btrfs", "-q", "-L", LABEL],
            Self::Vfat | Self::VfatLarge => &["mkfs.fat", "-F", "32", "-n", LABEL],
            Self::Exfat => &["mkfs.exfat", "-L", LABEL],
            Self::Partition => return partition(out),
            Self::Ext4InPartition => {
                partition(out)?;
                let offset = format!("offset={START_BYTES}");
                let mut mke2fs = command("mke2fs");
                mke2fs.args(["-q", "-F", "-t", "ext4", "-L", LABEL, "-E", &offset]);
                return output(mke2fs.arg(out).arg(format!("{}M", mib - 2))).map(drop);
            }
        };
        let (program, args) = words.split_first().unwrap_or((&"", &[]));
        output(command(program).args(args).arg(out)).map(drop)
    }

    /// Checks a stick that was let go of: its file system needs no repair. Changes nothing.
    pub(crate) fn check(self, file: &Path) -> Result<()> {
        let words: &[&str] = match self {
            Self::Ext4 => &["e2fsck", "-fn"],
            Self::Xfs => &["xfs_repair", "-n", "-f"],
            Self::Btrfs => &["btrfs", "check", "--readonly"],
            Self::Vfat | Self::VfatLarge => &["fsck.fat", "-n"],
            Self::Exfat => &["fsck.exfat", "-n"],
            Self::Partition => return Ok(()),
            Self::Ext4InPartition => {
                let file = format!("{}?offset={START_BYTES}", file.display());
                return output(command("e2fsck").args(["-fn", &file])).map(drop);
            }
        };
        let (program, args) = words.split_first().unwrap_or((&"", &[]));
        output(command(program).args(args).arg(file)).map(drop)
    }
}

/// Where the partition begins.
const START_BYTES: u64 = 1 << 20;

/// Makes a table with one partition.
fn partition(out: &Path) -> Result<()> {
    let table = format!("label: gpt\nstart={}, name={LABEL}\n", START_BYTES / 512);
    run_with_input("sfdisk", ["--quiet".as_ref(), out.as_os_str()], &table).map(drop)
}

/// The disk with the tools.
pub(crate) fn tools(cache: &Cache, apt: &Apt) -> Result<PathBuf> {
    let tar = debian_tar(cache, apt, TOOLS)?;
    let fsx = fsx(cache)?;
    let key = Key::new()
        .name_of(&tar)
        .name_of(&fsx)
        .content(&bed("build"))?;
    cache.get("tools", &key, |part| {
        step("making the disk with the tools", || {
            let args = [&tar, Path::new("512M"), part];
            output(command("sh").arg(bed("build/tree-image.sh")).args(args))?;
            write_into(part, &[(&fsx, "/usr/bin/fsx")])
        })
    })
}

fn fsx(cache: &Cache) -> Result<PathBuf> {
    cache.get("fsx", &Key::new().text(FSX), |part| {
        step("building fsx", || {
            let root = tempfile::tempdir_in(cache.state("tmp")?)?;
            let mut cargo = command("cargo");
            cargo.args(["install", "--quiet", "--locked", "--debug", "--root"]);
            cargo.arg(root.path()).arg(FSX);
            output(cargo.env("CARGO_TARGET_DIR", root.path().join("target")))?;
            run("cp", [root.path().join("bin/fsx").as_path(), part]).map(drop)
        })
    })
}
