//! The device: its driver loaded, its daemon started, its node there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cow;
use super::modules::Modules;
use super::reach::Reached;
use crate::daemon::{self, Attached};
use crate::media::open::Durability;
use crate::media::session::Wish;
use crate::ublk;

/// How long the node of a device that is being served may take to appear.
const NODE_WAIT: Duration = Duration::from_secs(10);

/// The number of a root's device: it is the machine's first, and what an initramfs waits for.
pub(super) const ID: u32 = 0;

/// Its node, as devtmpfs and udev name it.
pub(super) fn path() -> PathBuf {
    PathBuf::from(format!("/dev/ublkb{ID}"))
}

/// Serve `base` and `cow` as the root's device, and wait until its node is there.
///
/// # Errors
/// What the daemon says, or the node does not come.
pub(super) fn serve(
    base: &Reached,
    cow: cow::Store,
    (durability, session): (Durability, Wish),
    lost_s: u32,
) -> anyhow::Result<Attached> {
    let attached = daemon::launch(&daemon::Options {
        base: base.path.clone(),
        carrier: base.carrier.clone(),
        cow: cow.store,
        notice: cow.notice,
        durability,
        session,
        id: Some(ID),
        size_bytes: None,
        read_only: false,
        lost_s,
    })?;
    wait_for_node(&attached.device())?;
    Ok(attached)
}

/// Load the driver of the device that will be served, unless it is there.
///
/// # Errors
/// There is no such module for this kernel, or the kernel refused it.
pub fn load_ublk(modules: &Modules) -> anyhow::Result<()> {
    if !Path::new(ublk::CONTROL).exists() {
        modules
            .load("ublk_drv")
            .context("serving a root needs ublk (Linux 6.9 and later, CONFIG_BLK_DEV_UBLK)")?;
    }
    let deadline = Instant::now() + NODE_WAIT;
    while !Path::new(ublk::CONTROL).exists() {
        if Instant::now() >= deadline {
            bail!(
                "loading module 'ublk_drv': it made no '{}'; the kernel's log says more",
                ublk::CONTROL
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn wait_for_node(device: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + NODE_WAIT;
    while !device.exists() {
        if Instant::now() >= deadline {
            bail!(
                "waiting for '{}': not there after {} s; the kernel's log says more",
                device.display(),
                NODE_WAIT.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
