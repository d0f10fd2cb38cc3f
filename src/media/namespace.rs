//! A process's own view of the mounts: only what it needs, so that it holds nothing else in use.

use std::os::fd::BorrowedFd;
use std::path::Path;

use anyhow::Context;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};

use crate::media::mount;
use crate::media::place::mounted_places;

/// Room for the mount points and whatever a library leaves in /run.
const ROOT_BYTES: u64 = 1 << 20;
/// What the daemon goes on to use by path: nodes, sysfs attributes, its own /proc.
const KEPT: [&str; 3] = ["dev", "proc", "sys"];

/// What was left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// A running system, whose user wants to know that a medium is in use.
    TheMachine,
    /// An initramfs: whoever ends the machine unmounts the medium long before this process ends.
    Initramfs,
}

/// Leave the mounts of the machine for a small root that shows only /dev, /proc, /sys and an empty
/// /run. The process must be in a namespace of its own ([`mount::private_namespace`]).
///
/// Otherwise every file system mounted now would stay in use until this process ends, and a daemon
/// that serves a root disk would wait for itself at the end (measured: a ublk server that
/// shares a namespace with its device's users can dead-lock on exit). The root file system of an
/// initramfs can be left since Linux 7; before, pivot_root refuses it, and its mounts stay, unseen.
///
/// # Errors
/// The kernel's refusal of the namespace or a mount.
pub fn leave() -> anyhow::Result<Left> {
    let left = if is_ram(Path::new("/")) {
        Left::Initramfs
    } else {
        Left::TheMachine
    };
    let root = ["/run", "/tmp", "/mnt"]
        .map(Path::new)
        .into_iter()
        .find(|place| place.is_dir());
    let root = root.context("finding a folder to mount on: there is no /run, /tmp or /mnt")?;
    if left == Left::Initramfs {
        forget_mounts()?;
    }
    mount::tmpfs(root, ROOT_BYTES)?;
    for name in KEPT {
        let place = root.join(name);
        std::fs::create_dir(&place).with_context(|| format!("making '{}'", place.display()))?;
        mount::bind(&Path::new("/").join(name), &place)
            .with_context(|| format!("keeping /{name} in view"))?;
    }
    for name in ["run", "old"] {
        std::fs::create_dir(root.join(name))
            .with_context(|| format!("making '{}'", root.join(name).display()))?;
    }
    match nix::unistd::pivot_root(root, &root.join("old")) {
        Ok(()) => {
            std::env::set_current_dir("/").context("entering its own root")?;
            mount::unmount_lazily(Path::new("/old")).context("leaving the machine's mounts")?;
            Ok(left)
        }
        // An initramfs. Whoever switches to the root deletes its folders, and the kernel takes away what is mounted on
        // them, here too; what is mounted below our root then stays with it.
        Err(nix::errno::Errno::EINVAL) => {
            nix::unistd::chroot(root).context("entering a root of its own")?;
            std::env::set_current_dir("/").context("entering the root")?;
            Ok(Left::Initramfs)
        }
        Err(error) => Err(error).context("leaving the machine's root"),
    }
}

/// Unmount all that is not needed any more. Where the root cannot be left it would stay, unseen: a medium that is taken
/// out of its drive could not be let go of.
fn forget_mounts() -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    let kept = KEPT.map(|name| Path::new("/").join(name));
    for place in mounted_places(&mounts).into_iter().rev() {
        let is_kept = place == Path::new("/") || kept.iter().any(|kept| place.starts_with(kept));
        if !is_kept {
            // It may have gone with one that it was mounted on.
            let _ = mount::unmount_lazily(&place);
        }
    }
    Ok(())
}

/// Do something with `root` as the root of this process, which has one thread; its own is `own`.
///
/// # Errors
/// The kernel's refusal; what `act` says is its own.
pub fn inside<T>(
    root: BorrowedFd<'_>,
    own: BorrowedFd<'_>,
    act: impl FnOnce() -> T,
) -> anyhow::Result<T> {
    enter(root).context("entering a medium")?;
    let result = act();
    enter(own).context("leaving a medium")?;
    Ok(result)
}

/// Make a folder the root of this process, and its current one.
///
/// # Errors
/// The kernel's refusal.
pub fn enter(root: BorrowedFd<'_>) -> nix::Result<()> {
    nix::unistd::fchdir(root)?;
    nix::unistd::chroot(".")
}

/// Whether `path` is on a file system in RAM, as an initramfs is.
#[must_use]
pub fn is_ram(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| {
        found.filesystem_type() == TMPFS_MAGIC || found.filesystem_type() == RAMFS_MAGIC
    })
}

/// Of <linux/magic.h>. Its type has other widths and signs elsewhere.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6_u32 as _);
