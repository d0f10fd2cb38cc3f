//! A process's own view of the mounts: only what it needs, so that it holds nothing else in use.

use std::path::Path;

use anyhow::Context;

use crate::media::mount;

/// Room for the mount points and whatever a library leaves in /run.
const ROOT_BYTES: u64 = 1 << 20;
/// What the daemon goes on to use by path: nodes, sysfs attributes, its own /proc.
const KEPT: [&str; 3] = ["dev", "proc", "sys"];

/// What was left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Everything: paths from before mean nothing any more.
    TheMachine,
    /// Nothing, for this is an initramfs: paths still hold, in the process's own copy of its mounts.
    Nothing,
}

/// Leave the mounts of the machine for a small root that shows only /dev, /proc, /sys and an empty
/// /run. The process must be in a namespace of its own ([`mount::private_namespace`]).
///
/// Otherwise every file system mounted now would stay in use until this process ends, and a daemon
/// that serves a root disk would wait for itself at the end (measured: a ublk server that
/// shares a namespace with its device's users can dead-lock on exit). The root file system of an
/// initramfs cannot be left (pivot_root refuses it); there only /run is covered.
///
/// # Errors
/// The kernel's refusal of the namespace or a mount.
pub fn leave() -> anyhow::Result<Left> {
    let root = ["/run", "/tmp", "/mnt"]
        .map(Path::new)
        .into_iter()
        .find(|place| place.is_dir());
    let root = root.context("finding a folder to mount on: there is no /run, /tmp or /mnt")?;
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
            Ok(Left::TheMachine)
        }
        // An initramfs: its few mounts stay, under a root that the switch will empty.
        Err(nix::errno::Errno::EINVAL) => {
            std::env::set_current_dir("/").context("entering the root")?;
            Ok(Left::Nothing)
        }
        Err(error) => Err(error).context("leaving the machine's root"),
    }
}
