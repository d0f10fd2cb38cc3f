//! The daemon: the process that serves a device. Started here, survives here, stopped from here.

use std::path::PathBuf;

use crate::media::open::CowStore;

/// What to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// A regular file or block device, never written.
    pub base: PathBuf,
    /// What takes the writes.
    pub cow: CowStore,
    /// The N of /dev/ublkbN, or the first free one.
    pub id: Option<u32>,
    /// Size of the device in bytes where it is larger than its base.
    pub size_bytes: Option<u64>,
    /// Refuse every write to the device.
    pub read_only: bool,
}

/// A device that is being served.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The N of /dev/ublkbN.
    pub id: u32,
    /// The daemon's process.
    pub pid: u32,
}

impl Attached {
    /// The block device's node, as devtmpfs names it.
    #[must_use]
    pub fn device(&self) -> PathBuf {
        PathBuf::from(format!("/dev/ublkb{}", self.id))
    }
}

/// Start a daemon in a process of its own and wait until its device is there.
///
/// # Errors
/// What the daemon reported, or that it died or said nothing within ten seconds.
pub fn launch(options: &Options) -> anyhow::Result<Attached> {
    anyhow::bail!("not yet: {options:?}")
}
