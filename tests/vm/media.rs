//! What a case's root comes from: disks and CDs with a base on them, made without root's rights.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::apt::Apt;
use crate::cache::{Cache, Key};
use crate::command::{command, output, run, run_with_input, step};
use crate::loader::Loader;
use crate::package;
use crate::root;
use crate::rootfs::RootFs;
use crate::stick::{self, Stick};

/// The UUID of every medium whose file system takes one.
pub(crate) const UUID: &str = "6f1b0c5e-8a52-4f0e-9c1d-2b7c3d4e5f60";

/// A file system a medium can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fs {
    Iso,
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
    Squashfs,
    Erofs,
}

impl Fs {
    /// Copies `path` out of the file system in `file`.
    pub(crate) fn extract(self, file: &Path, path: &str, out: &Path) -> Result<()> {
        let inside = format!("::{path}");
        match self {
            Self::Vfat => quiet(
                &["mcopy", "-n", "-o", "-i"],
                &[file, Path::new(&inside), out],
            ),
            Self::Ext4 => {
                let dump = format!("dump /{path} {}", out.display());
                quiet(&["debugfs", "-R", &dump], &[file])
            }
            _ => bail!("reading a file of {self:?} on the host: not needed yet"),
        }
    }

    /// Whether the file system in `file` needs no repair.
    pub(crate) fn check(self, file: &Path) -> Result<()> {
        match self {
            Self::Vfat => quiet(&["fsck.fat", "-n"], &[file]),
            Self::Ext4 => quiet(&["e2fsck", "-fn"], &[file]),
            _ => bail!("checking {self:?} on the host: not needed yet"),
        }
    }
}

/// What is on a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    /// Debian with systemd, in an ISO.
    DebianIso,
    /// Debian with sysvinit, in an ISO.
    DebianSysv,
    /// The same, and the ISO boots itself.
    DebianBoots,
    /// The busybox root, as /live/root.img on this file system, labelled LIVE.
    Mini(Fs),
    /// The same with room, for a stick that holds base and cowfile.
    Pocket(Fs),
    /// The same with a base that has room, too, to be merged into.
    PocketToMerge(Fs),
    /// The same, in the second partition of a GPT.
    MiniGpt(Fs),
    /// The same on an ISO with a partition that is all of it, as isohybrid makes them.
    MiniHybrid,
    /// The busybox root with a folder for the running kernel's modules, on an ext4 labelled LIVE.
    MiniModules,
    /// The same, as LiveOS/rootfs.img in a squashfs in an ISO: a file system within a file system.
    MiniNested,
    /// The busybox root in this file system, as /live/root.img on an ext4 labelled LIVE.
    Root(RootFs),
    /// The busybox root in an ISO that boots itself.
    MiniBoots,
    /// The same, and the partition before the one for UEFI begins as the ISO does.
    MiniBootsWithOffset,
    /// The busybox root itself, as a whole disk.
    MiniRaw,
    /// The same as Mini(Ext4), with both journals dirty: the base's and the medium's own.
    MiniDirty,
    /// A disk of this many MiB, with random content: a base to attach.
    Random(u64),
    /// A stick for cowfiles.
    Stick(Stick),
    /// The disk with what tries them.
    Tools,
    /// A disk with the Debian package.
    Package,
}

impl Content {
    /// Whether the guest is meant to write to it.
    pub(crate) fn is_written(self) -> bool {
        matches!(
            self,
            Self::Stick(_) | Self::Pocket(_) | Self::PocketToMerge(_)
        )
    }
}

/// How a medium is attached to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bus {
    /// A CD drive on AHCI; cannot be written by nature.
    Cd,
    /// A virtio disk that could be written.
    Disk,
    /// A USB stick that is there from the beginning, larger than what is on it.
    Usb,
    /// A USB stick, plugged in this many seconds after the kernel starts /init.
    UsbLate(u64),
    /// A virtio disk whose writes and flushes are logged beside it, in a file that ends in .log.
    Logged,
    /// A virtio disk whose file another disk of the machine is, too.
    Shared,
    /// A virtio disk whose file the host changes while nobody in the machine uses it.
    Exchanged,
}

/// A medium of a case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Medium {
    pub(crate) content: Content,
    pub(crate) bus: Bus,
    /// Bytes per second, for a medium that must be slow; it takes 1 ms for each request then, too.
    pub(crate) throttle: Option<u64>,
}

/// Makes media from what they hold.
#[derive(Debug)]
pub(crate) struct Maker<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) apt: &'a Apt,
    pub(crate) binary: &'a Path,
    /// For media that boot themselves.
    pub(crate) loader: &'a Loader<'a>,
    /// The kernel that will run, as `uname -r` says.
    pub(crate) release: &'a str,
}

impl Maker<'_> {
    /// The medium as a file of the cache. Never attach that one writable: copy it.
    pub(crate) fn get(&self, content: Content) -> Result<PathBuf> {
        if let Content::Random(mib) = content {
            let key = Key::new().text(&format!("{mib}"));
            return self.cache.get("random", &key, |part| random(part, mib));
        }
        match content {
            Content::Stick(stick) => {
                let key = Key::new().text(&format!("{stick:?} 2"));
                return self.cache.get("stick", &key, |part| stick.make(part));
            }
            Content::Tools => return stick::tools(self.cache, self.apt),
            Content::Package => return package::disk(self.cache),
            _ => {}
        }
        let base = match content {
            Content::DebianIso | Content::DebianBoots => {
                root::debian(self.cache, self.apt, self.binary)?
            }
            Content::DebianSysv => root::debian_sysv(self.cache, self.apt, self.binary)?,
            Content::PocketToMerge(_) => {
                root::mini(self.cache, self.binary, RootFs::Ext4Large, None)?
            }
            Content::Root(fs) => root::mini(self.cache, self.binary, fs, None)?,
            Content::MiniModules => {
                let fs = RootFs::Ext4;
                root::mini(self.cache, self.binary, fs, Some(self.release))?
            }
            _ => root::mini(self.cache, self.binary, RootFs::Ext4, None)?,
        };
        let mut key = Key::new().name_of(&base).text(&format!("{content:?} 3"));
        if matches!(
            content,
            Content::DebianBoots | Content::MiniBoots | Content::MiniBootsWithOffset
        ) {
            key = self.loader.key(key)?;
        }
        let boots = |options: &[&str], part: &Path| {
            self.tree_with(&base, |tree| self.loader.iso(tree, options, part))
        };
        self.cache.get("medium", &key, |part| match content {
            Content::DebianIso | Content::DebianSysv => step("making the ISO", || {
                self.tree_with(&base, |t| write(Fs::Iso, t, part))
            }),
            Content::DebianBoots => step("making the ISO that boots itself", || boots(&[], part)),
            Content::MiniBoots => boots(&[], part),
            Content::MiniBootsWithOffset => boots(&OFFSET, part),
            Content::MiniHybrid => self.tree_with(&base, |tree| iso(tree, &OFFSET, part)),
            Content::Root(_) | Content::MiniModules => {
                self.tree_with(&base, |tree| write(Fs::Ext4, tree, part))
            }
            Content::Pocket(fs) | Content::PocketToMerge(fs) => {
                self.tree_with(&base, |tree| write_with_room(fs, tree, 400, part))
            }
            Content::Mini(fs) => self.tree_with(&base, |tree| write(fs, tree, part)),
            Content::MiniGpt(fs) => self.tree_with(&base, |tree| gpt(fs, tree, part)),
            Content::MiniNested => nested(&base, part),
            Content::MiniRaw => run("cp", [base.as_path(), part]).map(drop),
            Content::MiniDirty => dirty(&base, part),
            Content::Random(_) | Content::Stick(_) | Content::Tools | Content::Package => Ok(()),
        })
    }

    /// Calls `make` with a tree that holds `base` as /live/root.img.
    fn tree_with(&self, base: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        // In the cache: a temporary folder in RAM may not hold a root.
        let tree = tempfile::tempdir_in(self.cache.state("tmp")?)?;
        fs::create_dir(tree.path().join("live"))?;
        run(
            "cp",
            [
                "--sparse=always".as_ref(),
                base.as_os_str(),
                tree.path().join("live/root.img").as_os_str(),
            ],
        )?;
        make(tree.path())
    }
}

/// Puts `tree` into a new file system at `out`.
fn write(fs: Fs, tree: &Path, out: &Path) -> Result<()> {
    // Room for the file system's own needs.
    write_with_room(fs, tree, 40, out)
}

/// The same with so many MiB beyond what the image takes.
fn write_with_room(fs: Fs, tree: &Path, room_mib: u64, out: &Path) -> Result<()> {
    let image = tree.join("live/root.img");
    let mib = fs::metadata(&image)?.len().div_ceil(1 << 20) + room_mib;
    let empty = |mib: u64| -> Result<()> { Ok(fs::File::create(out)?.set_len(mib << 20)?) };
    match fs {
        Fs::Iso => iso(tree, &[], out),
        Fs::Ext4 => {
            empty(mib)?;
            let words = [
                "mke2fs", "-q", "-F", "-t", "ext4", "-L", "LIVE", "-U", UUID, "-d",
            ];
            quiet(&words, &[tree, out])
        }
        Fs::Xfs => {
            // mkfs.xfs makes none below 300 MB.
            empty(mib.max(320))?;
            xfs(&image, out)
        }
        Fs::Btrfs => {
            empty(mib + 120)?;
            let words = [
                "mkfs.btrfs",
                "-q",
                "-f",
                "-L",
                "LIVE",
                "-U",
                UUID,
                "--rootdir",
            ];
            quiet(&words, &[tree, out])
        }
        Fs::Vfat => {
            empty(mib)?;
            let (dir, file) = (Path::new("::live"), Path::new("::live/root.img"));
            quiet(
                &["mkfs.fat", "-F", "32", "-n", "LIVE", "-i", "1A2B3C4D"],
                &[out],
            )?;
            quiet(&["mmd", "-i"], &[out, dir])?;
            quiet(&["mcopy", "-i"], &[out, &image, file])
        }
        Fs::Squashfs => squashfs(tree, out),
        Fs::Erofs => quiet(&["mkfs.erofs", "-U", UUID], &[out, tree]),
    }
}

/// xorriso's words for a second beginning of the ISO, 32 KiB behind the first, for a partition.
const OFFSET: [&str; 2] = ["-partition_offset", "16"];

fn iso(tree: &Path, options: &[&str], out: &Path) -> Result<()> {
    let words = [
        "xorriso",
        "-as",
        "mkisofs",
        "-quiet",
        "-R",
        "-iso-level",
        "3",
        "-V",
        "LIVE",
        "-o",
    ];
    let options: Vec<&Path> = options.iter().map(Path::new).collect();
    quiet(&words, &[&[out, tree], options.as_slice()].concat())
}

fn squashfs(tree: &Path, out: &Path) -> Result<()> {
    let options = ["-noappend", "-all-root", "-quiet", "-no-progress"].map(Path::new);
    quiet(
        &["mksquashfs"],
        &[&[tree, out], options.as_slice()].concat(),
    )
}

/// An XFS with `image` as /live/root.img, by the prototype file that mkfs.xfs can fill one from.
fn xfs(image: &Path, out: &Path) -> Result<()> {
    let files = format!(
        "/dev/null\n0 0\nd--755 0 0\nlive d--755 0 0\nroot.img ---644 0 0 {}\n$\n$\n",
        image.display()
    );
    let prototype = tempfile::NamedTempFile::new()?;
    fs::write(prototype.path(), files)?;
    let uuid = format!("uuid={UUID}");
    let words = ["mkfs.xfs", "-q", "-L", "LIVE", "-m", &uuid, "-p"];
    quiet(&words, &[prototype.path(), out])
}

fn quiet(words: &[&str], paths: &[&Path]) -> Result<()> {
    let Some((program, args)) = words.split_first() else {
        bail!("a command without words")
    };
    output(command(program).args(args).args(paths)).map(drop)
}

/// The second of two partitions; the first is there so that "the first partition" is a wrong guess.
fn gpt(fs: Fs, tree: &Path, out: &Path) -> Result<()> {
    let inner = tempfile::NamedTempFile::new_in(tree.parent().unwrap_or(tree))?;
    write(fs, tree, inner.path())?;
    let sectors = fs::metadata(inner.path())?.len().div_ceil(512);
    fs::File::create(out)?.set_len((sectors * 512) + (4 << 20))?;
    let script = format!(
        "label: gpt\nstart=2048, size=2048, name=first\n\
         start=4096, size={sectors}, name=live-part, uuid={UUID}\n"
    );
    run_with_input("sfdisk", ["--quiet".as_ref(), out.as_os_str()], &script)?;
    let args = ["conv=notrunc,sparse", "bs=1M", "seek=2", "status=none"];
    let from = format!("if={}", inner.path().display());
    let to = format!("of={}", out.display());
    output(command("dd").args(args).args([from, to])).map(drop)
}

fn nested(base: &Path, out: &Path) -> Result<()> {
    let inner = tempfile::tempdir()?;
    fs::create_dir(inner.path().join("LiveOS"))?;
    fs::copy(base, inner.path().join("LiveOS/rootfs.img"))?;
    let outer = tempfile::tempdir()?;
    fs::create_dir(outer.path().join("LiveOS"))?;
    let squashed = outer.path().join("LiveOS/squashfs.img");
    squashfs(inner.path(), &squashed)?;
    iso(outer.path(), &[], out)
}

fn dirty(base: &Path, out: &Path) -> Result<()> {
    let tree = tempfile::tempdir()?;
    fs::create_dir(tree.path().join("live"))?;
    root::dirty(base, &tree.path().join("live/root.img"))?;
    let clean = tempfile::NamedTempFile::new()?;
    write(Fs::Ext4, tree.path(), clean.path())?;
    root::dirty(clean.path(), out)
}

fn random(out: &Path, mib: u64) -> Result<()> {
    let (count, to) = (format!("count={mib}"), format!("of={}", out.display()));
    let args = ["if=/dev/urandom", "bs=1M", "status=none"];
    output(command("dd").args(args).args([count, to])).map(drop)
}
