//! A medium mounted anew: what is done between the mounts.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};
use sys_mount::UnmountFlags;

use crate::sys;

/// Let `device` be written, which was not to be.
///
/// # Errors
/// It is write-protected, or does not take the order.
pub fn set_writable(device: &Path) -> anyhow::Result<()> {
    let allowing = || format!("making '{}' writable", device.display());
    let file = File::open(device).with_context(allowing)?;
    sys::set_block_device_read_only(&file, false).with_context(allowing)?;
    if sys::is_block_device_read_only(&file).with_context(allowing)? {
        bail!(
            "{}: it is write-protected; a stick or card may have a switch for that",
            allowing()
        );
    }
    Ok(())
}

/// Unmount `target`, with all that was written to it durable.
///
/// # Errors
/// Somebody uses it.
pub fn unmount(target: &Path) -> anyhow::Result<()> {
    let unmounting = || format!("unmounting '{}'", target.display());
    sys_mount::unmount(target, UnmountFlags::empty()).with_context(unmounting)
}
