//! The initramfs that a distribution's own tool makes, with our hooks in it: dracut, initramfs-tools;
//! and a shim of mkinitcpio.
//!
//! The tool runs in a tree of its release, once for each version of it, of the kernel and of the hooks. Our binary
//! changes more often: it is laid over the image as a second archive, which the kernel unpacks over the first.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::apt::{Apt, BEFORE, NEWEST, SUITE};
use crate::cache::{Cache, Key};
use crate::command::{command, output, run, step};
use crate::cpio;
use crate::kernel::Kernel;
use crate::root::{bed, debian_tar};
use crate::shim;

/// Which tool, of which release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Home {
    /// dracut 059.
    DracutBefore,
    /// dracut 106.
    Dracut,
    /// dracut 106, without systemd in the initramfs.
    DracutPlain,
    /// sid's, 112 or later.
    DracutNewest,
    /// initramfs-tools, of Debian 13.
    InitramfsTools,
    /// A shim of mkinitcpio, which is not in Debian, with its hook for its own init.
    MkinitcpioShim,
    /// The same with systemd as its init.
    MkinitcpioShimSystemd,
}

/// What dracut leaves out: nothing of it is on our way, and it makes the image half as large.
const OMITTED: &str =
    "plymouth lvm dm dmraid crypt mdraid multipath iscsi nbd nvmf fcoe resume i18n terminfo hwdb";

/// What a tree with dracut has, with what brings up a network there.
const DRACUT: &[&str] = &[
    "dracut-core",
    "dracut-network",
    "iproute2",
    "systemd",
    "systemd-sysv",
    "udev",
    "kmod",
    "e2fsprogs",
    "zstd",
];

/// The same for the scripts that did so before networkd: dracut makes no image at all without what they call.
const DRACUT_SCRIPTS: &[&str] = &["isc-dhcp-client", "iputils-arping", "procps"];

impl Home {
    /// The release whose tool it is.
    fn suite(self) -> &'static str {
        match self {
            Self::DracutBefore => BEFORE,
            Self::DracutNewest => NEWEST,
            _ => SUITE,
        }
    }

    /// What its tree has beyond Essential and apt.
    fn packages(self) -> Vec<&'static str> {
        match self {
            Self::MkinitcpioShim | Self::MkinitcpioShimSystemd => shim::PACKAGES.to_vec(),
            Self::InitramfsTools => vec!["initramfs-tools", "udev", "kmod", "e2fsprogs", "zstd"],
            Self::DracutNewest => DRACUT.to_vec(),
            // One tree for both of 106.
            Self::DracutBefore | Self::Dracut | Self::DracutPlain => {
                [DRACUT, DRACUT_SCRIPTS].concat()
            }
        }
    }

    /// What makes /initrd in its tree.
    fn command(self) -> String {
        let omitted = match self {
            Self::DracutPlain => format!("{OMITTED} systemd systemd-initrd dracut-systemd"),
            Self::InitramfsTools => {
                return "mkinitramfs -o /initrd \"$(ls /usr/lib/modules)\"".into();
            }
            Self::MkinitcpioShim => return shim::COMMAND.into(),
            Self::MkinitcpioShimSystemd => return shim::COMMAND_SYSTEMD.into(),
            _ => OMITTED.to_owned(),
        };
        let network = match self {
            Self::DracutPlain | Self::DracutBefore => "network-legacy",
            _ => "systemd-networkd",
        };
        format!(
            "dracut --no-hostonly --no-early-microcode --zstd --kver \"$(ls /usr/lib/modules)\" --add 'cowroot cowtest {network}' \
             --omit '{omitted}' /initrd"
        )
    }

    /// What lies where in its tree, our hooks first: from the project's folders, to the tree's.
    fn hooks(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::InitramfsTools => &[("initramfs-tools-hook", "usr/share/initramfs-tools")],
            Self::MkinitcpioShim | Self::MkinitcpioShimSystemd => shim::HOOKS,
            _ => &[
                ("dracut-module", "usr/lib/dracut/modules.d"),
                ("tests/vm/dracut", "usr/lib/dracut/modules.d"),
            ],
        }
    }

    /// Where our binary lies in the image.
    fn program(self) -> &'static str {
        match self {
            Self::MkinitcpioShim | Self::MkinitcpioShimSystemd => shim::PROGRAM,
            _ => "usr/sbin/cowroot",
        }
    }

    /// The image, with `binary` in it.
    pub(crate) fn get(self, cache: &Cache, kernel: &Kernel, binary: &Path) -> Result<PathBuf> {
        let made = self.made(cache, kernel, binary)?;
        let key = Key::new().name_of(&made).content(binary)?;
        cache.get("home-initramfs", &key, |part| {
            run("cp", [made.as_path(), part])?;
            let tree = tempfile::tempdir()?;
            let program = tree.path().join(self.program());
            fs::create_dir_all(program.parent().unwrap_or(tree.path()))?;
            fs::copy(binary, program)?;
            let over = tempfile::NamedTempFile::new()?;
            cpio::pack(tree.path(), over.path())?;
            let mut image = File::options().append(true).open(part)?;
            // The kernel looks for an archive at a multiple of four.
            let len = image.metadata()?.len();
            image.write_all(&vec![0; usize::try_from(len.wrapping_neg() % 4)?])?;
            io::copy(&mut File::open(over.path())?, &mut image)?;
            Ok(())
        })
    }

    /// The image as the tool made it.
    fn made(self, cache: &Cache, kernel: &Kernel, binary: &Path) -> Result<PathBuf> {
        let apt = Apt::open(cache, self.suite())?;
        let tar = debian_tar(cache, &apt, &self.packages())?;
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = bed("build/initramfs.sh");
        let mut key = Key::new()
            .name_of(&tar)
            .name_of(&kernel.modules)
            .text(&self.command())
            .content(&script)?;
        for (ours, _) in self.hooks() {
            key = key.content(&project.join(ours))?;
        }
        cache.get("home", &key, |part| {
            step(&format!("making an initramfs ({self:?})"), || {
                let over = tempfile::tempdir()?;
                for (ours, theirs) in self.hooks() {
                    let (ours, hooks) = (project.join(ours), over.path().join(theirs));
                    fs::create_dir_all(&hooks)?;
                    run(
                        "cp",
                        ["-r".as_ref(), ours.join(".").as_os_str(), hooks.as_os_str()],
                    )?;
                }
                fs::create_dir_all(over.path().join("usr/sbin"))?;
                fs::copy(binary, over.path().join("usr/sbin/cowroot"))?;
                let modules = kernel.modules.parent().unwrap_or(&kernel.modules);
                let mut making = command("sh");
                making.arg(&script).arg(&tar).arg(modules);
                making.arg(over.path()).arg(part).arg(self.command());
                output(&mut making).map(drop)
            })
        })
    }
}
