//! A file system seen as whoever mounts it to write would see it, read-only: with its journal replayed, on a device that
//! takes that.

use std::path::Path;

use anyhow::bail;
use sys_mount::MountFlags;

use super::mount::kinds::{Harmless, harmless};
use super::mount::{advice, first_that_is_known};

/// Options as for media; but these replay, where there is something to replay and the device can be written. One that is
/// damaged is read on, whatever its own rule says: that may be to stop the machine.
const REPLAYED: &[Harmless] = &[
    harmless("ext2", "ext4", &["errors=continue"]),
    harmless("ext3", "ext4", &["errors=continue"]),
    harmless("ext4", "ext4", &["errors=continue"]),
    // A base and its session have one UUID.
    harmless("xfs", "xfs", &["nouuid"]),
    harmless("btrfs", "btrfs", &[""]),
    harmless("f2fs", "f2fs", &[""]),
    harmless("vfat", "vfat", &["utf8", ""]),
    harmless("exfat", "exfat", &[""]),
    harmless("iso9660", "iso9660", &[""]),
    harmless("squashfs", "squashfs", &[""]),
    harmless("erofs", "erofs", &[""]),
];

/// What became of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is there.
    Mounted,
    /// It was not unmounted, so its journal must be replayed first, and the device refuses to be written.
    WantsReplay,
}

/// Mount `device`, which holds a file system of type `kind`, read-only at `target`. A device that refuses to be written
/// (`is_read_only`) may turn out to want that.
///
/// # Errors
/// A type that this is not known of, or the kernel's refusal.
pub fn mount(device: &Path, kind: &str, target: &Path, is_read_only: bool) -> anyhow::Result<Seen> {
    let Some(row) = REPLAYED.iter().find(|row| row.kind == kind) else {
        let known: Vec<_> = REPLAYED.iter().map(|row| row.kind).collect();
        bail!(
            "mounting '{}': it holds {kind}; known are {}",
            device.display(),
            known.join(", ")
        );
    };
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match first_that_is_known(device, row, target, flags) {
        Ok(()) => Ok(Seen::Mounted),
        // btrfs says EIO for that (btrfs_replay_log in the kernel).
        Err(error)
            if is_read_only && matches!(error.raw_os_error(), Some(libc::EROFS | libc::EIO)) =>
        {
            Ok(Seen::WantsReplay)
        }
        Err(error) => bail!(
            "mounting '{}' ({kind}) read-only: {error}; {}",
            device.display(),
            advice(&error)
        ),
    }
}
