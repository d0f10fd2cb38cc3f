//! Whether a medium is gone: pulled out, or taken out of its drive.
//!
//! An error says that something is wrong with a read or a write. Where the device below is not there any more,
//! nothing is: whoever waits can go on waiting until the medium is back. The error comes first, and the kernel takes
//! the device away a moment later; so whoever gets an error waits for that moment before anybody hears of it.
//!
//! A card reader or a CD drive stays. What the kernel knows of its medium is what it found when somebody opened it the
//! last time (there need not be a udev that has it look again), so it is opened here; and when the medium is another one,
//! or the same once more, it counts them (diskseq).

use std::fmt;
use std::fs::File;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::stat::{major, minor};

use crate::sys;

/// For how long a device may still be there whose medium is gone.
const MOMENT: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
/// How often its drive is opened meanwhile: that asks it whether it is ready, and if it has a hiccup just then the kernel takes
/// it for empty.
const OPEN: Duration = Duration::from_millis(500);
/// A medium that was there all the time is a bad one, and not waited for again so soon.
const BAD: Duration = Duration::from_secs(30);

/// The block device that a file lies on, or is, by its number. None has what lies on no device, or, as on btrfs, on
/// several.
#[must_use]
pub fn device_below(file: &File) -> Option<u64> {
    let found = file.metadata().ok()?;
    match found.file_type().is_block_device() {
        true => Some(found.rdev()),
        false => Some(found.dev()).filter(|&device| major(device) != 0),
    }
}

/// What the kernel tells of a block device.
#[must_use]
pub fn folder_of(device: u64) -> PathBuf {
    format!("/sys/dev/block/{}:{}", major(device), minor(device)).into()
}

/// Whether a device is not there any more, or has no medium, as far as the kernel knows by now.
#[must_use]
pub fn is_gone(device: u64) -> bool {
    let folder = folder_of(device);
    // A partition stays for a while when its disk has no medium any more.
    !has_size(&folder) || !has_size(&disk_of(&folder))
}

/// The same, and the kernel is made to look.
#[must_use]
pub fn is_out(device: u64) -> bool {
    // A CD drive keeps the size of a disc that is out.
    is_gone(device) || !is_loaded(&folder_of(device)) || is_gone(device)
}

fn has_size(folder: &Path) -> bool {
    attribute(folder, "size").is_some_and(|size| size != "0")
}

/// The folder of the disk that a partition is on; a disk's own.
fn disk_of(folder: &Path) -> PathBuf {
    match folder.join("partition").exists() {
        true => folder.join(".."),
        false => folder.to_owned(),
    }
}

/// Have the kernel look into a drive that media can be taken out of. Whether one is in it, as far as it can tell; true
/// for what is no such drive. `folder` is what the kernel tells of it, or of a partition.
#[must_use]
pub fn is_loaded(folder: &Path) -> bool {
    let disk = disk_of(folder);
    if attribute(&disk, "removable").is_none_or(|removable| removable != "1") {
        return true;
    }
    match node_of(&disk).map(|node| open_drive(&node, 0)) {
        Some(Ok(drive)) => !matches!(sys::is_disc_out(&drive), Ok(true)),
        Some(Err(error)) => error.raw_os_error() != Some(libc::ENOMEDIUM),
        None => true,
    }
}

/// Open a device to ask what is in it. Without O_NONBLOCK the kernel would close a drive's tray and wait for a disc.
///
/// # Errors
/// The kernel's.
pub fn open_drive(node: &Path, flags: i32) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | flags);
    options.open(node)
}

/// The node of the device that the kernel tells of in this folder, as devtmpfs names it.
#[must_use]
pub fn node_of(folder: &Path) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    Some(node_named(folder.file_name()?.to_str()?))
}

/// The node of the device that the kernel calls so: it writes `!` for a slash inside a name.
#[must_use]
pub fn node_named(name: &str) -> PathBuf {
    Path::new("/dev").join(name.replace('!', "/"))
}

/// Changes when another medium is in the drive, or the same one again (Linux 5.15; 0 before).
#[must_use]
pub fn medium_version(folder: &Path) -> u64 {
    let version = attribute(&disk_of(folder), "diskseq");
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether a device has another medium than the one of this version, or had another meanwhile.
#[must_use]
pub fn is_swapped(device: u64, version: u64) -> bool {
    medium_version(&folder_of(device)) != version
}

/// What the kernel tells in a file of such a folder.
#[must_use]
pub fn attribute(folder: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(name)).ok()?;
    Some(text.trim().to_owned())
}

/// Devices that are gone, as an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost(pub Vec<u64>);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter();
        let names = names.map(|&device| format!("{}:{}", major(device), minor(device)));
        let names: Vec<String> = names.collect();
        write!(f, "block device {} is gone", names.join(", "))
    }
}

impl std::error::Error for Lost {}

/// What all who do I/O for a disk know of its devices.
#[derive(Debug, Default)]
pub(super) struct Loss {
    /// Those that may come back, each with the version of the medium that is in use.
    devices: OnceLock<Vec<(u64, u64)>>,
    /// From when on another version is another medium.
    swapped_from: OnceLock<Instant>,
    /// Those that were found to be gone.
    gone: OnceLock<Vec<u64>>,
    /// When a device was last found to be there after an error.
    there: Mutex<Option<Instant>>,
}

impl Loss {
    /// Look for these from now on; and from `swapped_from` on whether they have a medium of another version.
    pub(super) fn mind(&self, devices: Vec<(u64, u64)>, swapped_from: Instant) {
        let _ = self.swapped_from.set(swapped_from);
        let _ = self.devices.set(devices);
    }

    /// Whether there is anything to look for.
    pub(super) fn is_minded(&self) -> bool {
        self.devices
            .get()
            .is_some_and(|devices| !devices.is_empty())
    }

    /// Whether a device is gone by now.
    pub(super) fn look_once(&self) -> bool {
        self.look_with(is_gone)
    }

    fn look_with(&self, is_gone: impl Fn(u64) -> bool) -> bool {
        let minds_swaps = self
            .swapped_from
            .get()
            .is_some_and(|from| Instant::now() >= *from);
        let gone = self.devices.get().into_iter().flatten();
        let gone = gone.filter(|&&(device, version)| {
            // Whether it is the same medium again is another's business: what was open on it may read no more.
            is_gone(device) || (minds_swaps && is_swapped(device, version))
        });
        let gone: Vec<u64> = gone.map(|&(device, _)| device).collect();
        if !gone.is_empty() {
            let _ = self.gone.set(gone);
        }
        self.is_known()
    }

    /// Something failed: wait until it is known whether a device is gone, at most a moment.
    pub(super) fn look(&self) {
        if !self.is_minded() || self.is_known() {
            return;
        }
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        let is_bad = there.is_some_and(|there| there.elapsed() < BAD);
        let deadline = Instant::now() + if is_bad { Duration::ZERO } else { MOMENT };
        let mut opens_at = Instant::now();
        loop {
            let is_lost = match Instant::now() >= opens_at {
                true => {
                    opens_at = Instant::now() + OPEN;
                    self.look_with(is_out)
                }
                false => self.look_once(),
            };
            if is_lost {
                return;
            }
            if Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(LOOK);
        }
        *there = Some(Instant::now());
    }

    /// Whether a device was found to be gone.
    pub(super) fn is_known(&self) -> bool {
        self.gone.get().is_some()
    }

    /// The devices that were found to be gone.
    pub(super) fn gone(&self) -> Option<Lost> {
        self.gone.get().cloned().map(Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::makedev;

    #[test]
    fn a_device_that_is_not_there_is_gone_and_what_has_none_is_not_looked_for() {
        assert!(is_gone(makedev(4095, 7)));
        let mut loss = Loss::default();
        loss.look();
        assert!(!loss.is_known() && !loss.is_minded(), "nothing is minded");
        loss.mind(vec![(makedev(4095, 7), 0)], Instant::now());
        loss.look();
        assert!(loss.is_known());
        assert_eq!(loss.gone(), Some(Lost(vec![makedev(4095, 7)])));
        let text = loss.gone().unwrap().to_string();
        assert_eq!(text, "block device 4095:7 is gone");
        let memory = nix::sys::memfd::memfd_create(c"m", nix::sys::memfd::MFdFlags::empty());
        assert_eq!(device_below(&File::from(memory.unwrap())), None);

        let mut there = std::fs::read_dir("/sys/block").unwrap().flatten();
        let there = there.find_map(|disk| {
            let number = std::fs::read_to_string(disk.path().join("dev")).ok()?;
            let (major, minor) = number.trim().split_once(':')?;
            let device = makedev(major.parse().ok()?, minor.parse().ok()?);
            (std::fs::read_to_string(disk.path().join("size"))
                .ok()?
                .trim()
                != "0")
                .then_some(device)
        });
        loss = Loss::default();
        if let Some(there) = there {
            let version = medium_version(&folder_of(there));
            loss.mind(vec![(there, version)], Instant::now());
            let began = Instant::now();
            loss.look();
            assert!(
                !loss.is_known() && began.elapsed() >= MOMENT,
                "it is waited for"
            );
            loss.look();
            assert!(began.elapsed() < MOMENT * 2, "but not each time");
        }
    }
}
