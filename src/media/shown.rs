//! A medium that is put into the machine's view of the mounts, by a process that has another one.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};

use super::mount::{self, Access};
use super::place::{Place, device_mounted_at, places_of};
use crate::disk::lost::is_gone;
use crate::sys;

/// The machine's view is that of its first process.
const MACHINE: &str = "/proc/1/ns/mnt";

/// Unmount all that the machine has mounted of the device `gone`. This process, which has one thread, sees the machine's
/// mounts from now on.
///
/// # Errors
/// The kernel's refusal.
pub fn hide(gone: u64) -> anyhow::Result<()> {
    for at in places_of(&machine_mounts()?, gone).iter().rev() {
        let unmounting = || format!("unmounting '{}', which was taken out", at.display());
        mount::unmount_lazily(at).with_context(unmounting)?;
    }
    Ok(())
}

/// Enter the machine's view of its mounts, and read what is mounted.
fn machine_mounts() -> anyhow::Result<String> {
    let machine = File::open(MACHINE).with_context(|| format!("opening '{MACHINE}'"))?;
    setns(machine.as_fd(), CloneFlags::CLONE_NEWNS).context("entering the machine's mounts")?;
    std::fs::read_to_string("/proc/self/mountinfo").context("reading them")
}

/// A medium that is mounted, and not at a place yet.
#[derive(Debug)]
pub struct Shown {
    mount: OwnedFd,
}

impl Shown {
    /// Mount a place's medium.
    ///
    /// # Errors
    /// It is not mounted so, or the kernel's refusal.
    pub fn mount(place: &Place, access: Access) -> anyhow::Result<Self> {
        let kind = place.kind.as_deref().context("it has no file system")?;
        let mount = mount::detached(&place.node(), kind, access)?;
        Ok(Self { mount })
    }

    /// Show it where the place's medium was mounted before, in place of the one on the device `gone`. Whether it was not
    /// there already. This process, which has one thread, sees the machine's mounts from now on.
    ///
    /// # Errors
    /// Something else is mounted there, or the kernel's refusal.
    pub fn put(self, place: &Place, gone: u64) -> anyhow::Result<bool> {
        let mounts = machine_mounts()?;
        let at = &place.mounted;
        match device_mounted_at(&mounts, at) {
            Some(there) if there == place.device => return Ok(false),
            // Or one of an earlier time, which nobody could show then.
            Some(there) if there == gone || is_gone(there) => {
                mount::unmount_lazily(at).context("unmounting what was pulled out")?;
            }
            Some(_) => bail!("something else is mounted there"),
            // Whoever minds the machine's mounts has unmounted it.
            None => {}
        }
        let target = CString::new(at.as_os_str().as_bytes()).context("naming it")?;
        sys::move_mount(&self.mount, &target).context("moving a mount there")?;
        Ok(true)
    }
}
