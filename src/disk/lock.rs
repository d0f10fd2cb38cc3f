//! A lock on a cowfile's first file, against a second user.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How often, each tenth of a second, a device's lock is tried.
const UDEV: u32 = 15;

/// Somebody has it: who that is.
#[derive(Debug)]
pub struct InUse(String);

impl std::fmt::Display for InUse {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            to,
            "in use by {}; detach the device that it serves, or wait (a running root's is free when the machine is off)",
            self.0
        )
    }
}

impl std::error::Error for InUse {}

/// Lock a file. udev looks at a device, and locks it for that, whenever somebody has written to it.
pub(super) fn locked(
    mut file: File,
    how: FlockArg,
    is_device: bool,
) -> anyhow::Result<Flock<File>> {
    let mut tries = if is_device { UDEV } else { 1 };
    loop {
        tries -= 1;
        file = match Flock::lock(file, how) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK)) if tries > 0 => {
                std::thread::sleep(std::time::Duration::from_millis(100));
                file
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                let holder = holder(&file);
                bail!(InUse(holder.unwrap_or_else(|| "another process".into())))
            }
            Err((_, error)) => return Err(error).context("locking it"),
        };
    }
}

/// Who holds a lock on a file, as the kernel tells (proc_locks(5)).
pub(super) fn holder(file: &File) -> Option<String> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let metadata = file.metadata().ok()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    let number = format!(
        "{:02x}:{:02x}:{inode}",
        nix::sys::stat::major(device),
        nix::sys::stat::minor(device)
    );
    let line = locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.get(5) == Some(&number.as_str()) && words.get(1) == Some(&"FLOCK"))?;
    let pid: u32 = line.get(4)?.parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("process {pid} ({})", name.trim_end()))
}
