//! The initramfs images: what the kernel starts first.
//!
//! * bare: our binary as `/init` and kernel modules, nothing else. What `cowroot boot` must manage.
//! * mini: busybox, our binary and a script that runs one check. For `attach`, `detach` and `status`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::apt::{Apt, SUITE};
use crate::cache::{Cache, Key};
use crate::command::{command, output, run};
use crate::cpio;
use crate::home::Home;
use crate::kernel::{Kernel, Packing, Spoilt};
use crate::packages::Tree;
use crate::root::bed;

/// What a live system's initramfs would hold: media, their buses, their file systems, ublk.
const MODULES: &[&str] = &[
    // the device, and what reaches a medium
    "ublk_drv",
    "loop",
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "ahci",
    "ata_piix",
    "sr_mod",
    "sd_mod",
    "usb_storage",
    "uas",
    "xhci_pci",
    "ehci_pci",
    "virtio_net",
    // what is on it
    "isofs",
    "ext4",
    "xfs",
    "btrfs",
    "vfat",
    "exfat",
    "f2fs",
    "squashfs",
    "erofs",
    "nfsv3",
    "nfsv4",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859-1",
    "nls_utf8",
    // what those ask for by an alias that is no file name
    "crc32c_generic",
    "crc32_generic",
    "crc32c_intel",
    "xxhash_generic",
    "blake2b_generic",
    "sha256_generic",
];

/// What the bench has besides.
const BENCH_MODULES: &[&str] = &["dm_snapshot", "dm_delay", "nbd", "overlay"];

/// What an NFS server has besides, and its programs.
const SERVER_MODULES: &[&str] = &["nfsd"];
const SERVER_PACKAGES: &[&str] = &["nfs-kernel-server", "rpcbind"];
const SERVER_PROGRAMS: &[&str] = &[
    "usr/sbin/rpc.nfsd",
    "usr/sbin/rpc.mountd",
    "usr/sbin/exportfs",
    "usr/sbin/rpcbind",
];

/// What checks and repairs a stick's file system, and that of a root.
const CHECKERS: [&str; 3] = ["e2fsck", "fsck.fat", "fsck.exfat"];

/// Which initramfs a case boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Initramfs {
    /// Our binary as `/init`, modules packed so.
    Bare(Packing),
    /// The bare one without this module.
    BareWithout(&'static str),
    /// The bare one with this module spoilt.
    BareSpoilt(&'static str, Spoilt),
    /// The bare one with a `/bin/sh`, which says that it was started and ends.
    BareShell,
    /// busybox, our binary, and the check as a script.
    Mini,
    /// The mini one without this module.
    MiniWithout(&'static str),
    /// The mini one with what the bench compares with.
    Bench,
    /// What a distribution's tool makes.
    Home(Home),
    /// The mini one with the kernel's NFS server.
    NfsServer,
    /// The mini one with programs that check and repair file systems.
    Checkers,
}

impl Initramfs {
    /// Makes it, or takes it from the cache.
    pub(crate) fn get(self, cache: &Cache, kernel: &Kernel, binary: &Path) -> Result<PathBuf> {
        if let Self::Home(home) = self {
            return home.get(cache, kernel, binary);
        }
        let server = match self {
            Self::NfsServer => {
                let apt = Apt::open(cache, SUITE)?;
                Some(Tree::get(cache, &apt, SERVER_PACKAGES)?)
            }
            _ => None,
        };
        let key = Key::new().name_of(&kernel.modules).content(binary)?;
        let key = key
            .text(&format!(
                "{self:?} {} {}",
                MODULES.join(" "),
                BENCH_MODULES.join(" ")
            ))
            .content(&bed("guest"))?;
        cache.get("initramfs", &key, |part| {
            let tree = tempfile::tempdir()?;
            let (packing, without) = match self {
                Self::Bare(packing) => (packing, None),
                // busybox's modprobe reads plain ones only.
                Self::Mini | Self::Bench | Self::Checkers | Self::NfsServer => {
                    (Packing::Plain, None)
                }
                Self::MiniWithout(module) => (Packing::Plain, Some(module)),
                Self::BareWithout(module) => (Packing::Xz, Some(module)),
                Self::BareSpoilt(..) | Self::Home(_) => (Packing::Plain, None),
                Self::BareShell => (Packing::Xz, None),
            };
            let more = match self {
                Self::Bench => BENCH_MODULES,
                Self::NfsServer => SERVER_MODULES,
                _ => &[],
            };
            let modules: Vec<&str> = MODULES
                .iter()
                .chain(more)
                .copied()
                .filter(|m| Some(*m) != without)
                .collect();
            kernel.copy_modules(&modules, packing, tree.path())?;
            match self {
                Self::Bare(_) | Self::BareWithout(_) => bare(tree.path(), binary)?,
                Self::BareSpoilt(module, spoilt) => {
                    bare(tree.path(), binary)?;
                    kernel.spoil(module, spoilt, tree.path())?;
                }
                Self::BareShell => {
                    bare(tree.path(), binary)?;
                    install(&static_busybox()?, &tree.path().join("bin/busybox"))?;
                    install(&bed("guest/shell.sh"), &tree.path().join("bin/sh"))?;
                }
                Self::Mini | Self::MiniWithout(_) | Self::Bench => mini(tree.path(), binary)?,
                Self::Home(_) => {}
                Self::NfsServer => {
                    mini(tree.path(), binary)?;
                    if let Some(server) = &server {
                        server.copy(SERVER_PROGRAMS, tree.path())?;
                    }
                }
                Self::Checkers => {
                    mini(tree.path(), binary)?;
                    for program in CHECKERS {
                        with_libraries(program, tree.path())?;
                    }
                }
            }
            cpio::pack(tree.path(), part)
        })
    }
}

fn bare(tree: &Path, binary: &Path) -> Result<()> {
    install(binary, &tree.join("init"))
}

fn mini(tree: &Path, binary: &Path) -> Result<()> {
    for dir in [
        "bin", "usr/lib", "dev", "proc", "sys", "run", "tmp", "mnt", "etc",
    ] {
        fs::create_dir_all(tree.join(dir))?;
    }
    install(&static_busybox()?, &tree.join("bin/busybox"))?;
    std::os::unix::fs::symlink("busybox", tree.join("bin/sh"))?;
    install(binary, &tree.join("bin/cowroot"))?;
    install(&bed("guest/mini-init.sh"), &tree.join("init"))?;
    run(
        "cp",
        [
            "-r".as_ref(),
            bed("guest").as_os_str(),
            tree.join("usr/lib/cowtest").as_os_str(),
        ],
    )?;
    Ok(())
}

fn install(from: &Path, to: &Path) -> Result<()> {
    output(
        command("install")
            .args(["-D", "-m", "755"])
            .arg(from)
            .arg(to),
    )
    .map(drop)
}

/// Puts this machine's own `program` into /bin, with its loader and libraries where they are here.
fn with_libraries(program: &str, tree: &Path) -> Result<()> {
    let path = command("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()?
        .stdout;
    let path = String::from_utf8_lossy(&path).trim().to_owned();
    ensure!(
        !path.is_empty(),
        "finding '{program}': not there (`make deps` installs it)"
    );
    install(Path::new(&path), &tree.join("bin").join(program))?;
    let needs = run("ldd", [&path])?;
    let files = needs.split_whitespace().filter(|w| w.starts_with('/'));
    for file in files {
        install(Path::new(file), &tree.join(file.trim_start_matches('/')))?;
    }
    Ok(())
}

/// The machine's own busybox, which must need no loader: the guests have none.
pub(crate) fn static_busybox() -> Result<PathBuf> {
    let found = ["/bin/busybox", "/usr/bin/busybox"]
        .map(PathBuf::from)
        .into_iter()
        .find(|p| p.exists());
    let busybox = found.context("finding busybox: not there; install busybox-static")?;
    ensure_static(&busybox, "install busybox-static")?;
    Ok(busybox)
}

/// An initramfs has no dynamic loader, and the kernel's complaint (`error -2`) names none.
pub(crate) fn ensure_static(file: &Path, advice: &str) -> Result<()> {
    let headers = run("readelf", ["-lW".as_ref(), file.as_os_str()])?;
    ensure!(
        !headers.contains("INTERP"),
        "'{}' needs a dynamic loader, and the guests have none; {advice}",
        file.display()
    );
    Ok(())
}
