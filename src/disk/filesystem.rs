//! The file system that a cowfile is on: what it is called, and what to run when it needs help.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{major, minor};

/// What to run for a file system of this kind that was not unmounted, before its device.
const CHECKS: [(&str, &str); 6] = [
    ("vfat", "fsck.vfat -a"),
    ("exfat", "fsck.exfat -p"),
    ("ext4", "e2fsck -p"),
    ("ext3", "e2fsck -p"),
    ("ext2", "e2fsck -p"),
    ("xfs", "xfs_repair"),
];

/// What to do about the file system that `path` is on, if the power was cut or it was pulled out.
#[must_use]
pub fn advice(path: &Path) -> String {
    let found = std::fs::metadata(path).map(|metadata| metadata.dev());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted = found.ok().and_then(|device| mounted(&mounts, device));
    match mounted {
        Some((kind, device, place)) => match CHECKS.iter().find(|(name, _)| *name == kind) {
            Some((_, check)) => format!(
                "if it was not unmounted the last time: umount '{place}', then {check} '{device}', and mount it again"
            ),
            None => format!("the kernel's log may say what is wrong with '{device}' ({kind})"),
        },
        None => "the kernel's log may say more".into(),
    }
}

/// Kind, device and place of the file system with this number, as proc_pid_mountinfo(5) tells.
fn mounted(mounts: &str, device: u64) -> Option<(&str, &str, &str)> {
    let number = format!("{}:{}", major(device), minor(device));
    mounts.lines().find_map(|line| {
        let (before, behind) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let mut behind = behind.split(' ');
        let fits = before.get(2) == Some(&number.as_str());
        let place = before.get(4).copied()?;
        fits.then(|| Some((behind.next()?, behind.next()?, place)))?
    })
}

/// Whether somebody who names this path, where nothing is, means a device.
pub(super) fn is_meant_as_device(path: &Path) -> bool {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    !path.exists()
        && folder
            .is_some_and(|folder| folder.starts_with("/dev") && !folder.starts_with("/dev/shm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_found_by_its_number() {
        let mounts = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                      40 22 8:17 / /run/media/stick ro,nosuid - vfat /dev/sdb1 ro,fmask=0022\n";
        let device = nix::sys::stat::makedev(8, 17);
        let found = mounted(mounts, device);
        assert_eq!(found, Some(("vfat", "/dev/sdb1", "/run/media/stick")));
        assert_eq!(mounted(mounts, nix::sys::stat::makedev(9, 17)), None);
        assert!(!advice(Path::new("/")).is_empty());
    }
}
