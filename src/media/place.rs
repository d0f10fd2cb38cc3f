//! Where a base or cowfile lies, so that it is found again when its medium was pulled out and put back: under any
//! name of the device, but on no other medium.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use super::survey::{self, Seen};
use crate::disk::lost::{device_below, folder_of, node_named};

/// A medium, and where on it something lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The number that the block device has now.
    pub device: u64,
    /// And its name.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// What it holds: the type of the file system, and its UUID.
    pub kind: Option<String>,
    /// The same.
    pub uuid: Option<String>,
    /// The partition's UUID.
    pub part_uuid: Option<String>,
    /// From the file system's root; empty if it is the device itself.
    pub path: PathBuf,
    /// Where that root is mounted; empty if only a part of it is.
    pub mounted: PathBuf,
}

/// Devices that were looked at, each with the medium it had then, and whether that was the one.
pub type Looked = BTreeMap<(String, u64), bool>;

impl Place {
    /// Where `file` lies, which was opened at `path`; `None` if it would not be known again: it is on no block
    /// device of its own, or in a file system without a UUID.
    #[must_use]
    pub fn of(path: &Path, file: &File) -> Option<Self> {
        let device = device_below(file)?;
        let folder = folder_of(device).canonicalize().ok()?;
        let seen = survey::look_at(folder.file_name()?.to_str()?);
        let is_file = file.metadata().ok()?.is_file();
        let (path, mounted) = match is_file {
            true => {
                let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
                within(&mounts, device, &path.canonicalize().ok()?)?
            }
            false => (PathBuf::new(), PathBuf::new()),
        };
        let place = Self::at(seen, device, (path, mounted));
        (!is_file || place.uuid.is_some()).then_some(place)
    }

    fn at(seen: Seen, device: u64, (path, mounted): (PathBuf, PathBuf)) -> Self {
        let (kind, uuid) = match seen.content {
            Some(content) => (Some(content.kind.to_owned()), content.uuid),
            None => (None, None),
        };
        Self {
            device,
            name: seen.name,
            size_bytes: seen.size_bytes,
            kind,
            uuid,
            part_uuid: seen.names.uuid,
            path,
            mounted,
        }
    }

    /// The device's node.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        node_named(&self.name)
    }

    /// Whether it is the device itself, not a file on it.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// Whether to read a file there changes nothing, even where the file system may be written: it has no journal.
    #[must_use]
    pub fn is_read_unchanged(&self) -> bool {
        matches!(self.kind.as_deref(), Some("vfat" | "exfat"))
    }

    /// Whether it is on a disc, or what is as one, whose UUID is the time it was made at.
    #[must_use]
    pub fn is_dated_disc(&self) -> bool {
        self.kind.as_deref() == Some("iso9660") && self.uuid.is_some()
    }

    /// Where it is now, if a device has come that is this medium. `looked` are those that need no second look.
    #[must_use]
    pub fn find(&self, looked: &mut Looked) -> Option<Self> {
        let there = survey::of_size(self.size_bytes, &self.name);
        looked.retain(|device, _| there.contains(device));
        for device in there {
            if looked.get(&device) == Some(&false) {
                continue;
            }
            let seen = survey::look_at(&device.0);
            // One that does not read yet is looked at again.
            if seen.trouble.is_some() {
                continue;
            }
            let same = || (self.path.clone(), self.mounted.clone());
            let found = number(&device.0).map(|number| Self::at(seen, number, same()));
            let is_it = found
                .as_ref()
                .is_some_and(|found| self.is_same_medium(found));
            looked.insert(device, is_it);
            if is_it {
                return found;
            }
        }
        None
    }

    fn is_same_medium(&self, other: &Self) -> bool {
        let names = |place: &Self| {
            (
                place.kind.clone(),
                place.uuid.clone(),
                place.part_uuid.clone(),
            )
        };
        self.size_bytes == other.size_bytes && names(self) == names(other)
    }
}

/// The number of the device that is called so.
fn number(name: &str) -> Option<u64> {
    parsed(&std::fs::read_to_string(format!("/sys/class/block/{name}/dev")).ok()?)
}

/// The path within its file system of what is at `path`, as the text of /proc/self/mountinfo has it; and where all of
/// that file system is mounted, if it is.
fn within(mounts: &str, device: u64, path: &Path) -> Option<(PathBuf, PathBuf)> {
    let number = format!("{}:{}", major(device), minor(device));
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let (found, root, place) = (fields.next()?, fields.next()?, fields.next()?);
        let mounted = PathBuf::from(unescaped(place));
        let inner = path.strip_prefix(&mounted).ok()?.to_owned();
        let mounted = if root == "/" { mounted } else { PathBuf::new() };
        (found == number).then(|| {
            let path = Path::new(&unescaped(root)).join(inner);
            (place.len(), (path, mounted))
        })
    };
    // The innermost, and of several at one place the last, which is on top.
    let found = mounts
        .lines()
        .filter_map(mount)
        .max_by_key(|(length, _)| *length);
    found.map(|(_, found)| found)
}

/// The number of the device that is mounted at `path`, on top of what else is there.
pub(super) fn device_mounted_at(mounts: &str, path: &Path) -> Option<u64> {
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let (device, _, place) = (fields.next()?, fields.next()?, fields.next()?);
        (Path::new(&unescaped(place)) == path).then(|| parsed(device))?
    };
    mounts.lines().filter_map(mount).next_back()
}

/// Where something of a device is mounted, in the order in which it was.
pub(super) fn places_of(mounts: &str, device: u64) -> Vec<PathBuf> {
    let number = format!(" {}:{} ", major(device), minor(device));
    let lines = mounts.lines().filter(|line| line.contains(&number));
    lines.flat_map(mounted_places).collect()
}

/// Where something is mounted, in the order in which it was.
pub(super) fn mounted_places(mounts: &str) -> Vec<PathBuf> {
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    places
        .map(|place| PathBuf::from(unescaped(place)))
        .collect()
}

/// A device's number as the kernel writes it.
fn parsed(text: &str) -> Option<u64> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(nix::sys::stat::makedev(
        major.parse().ok()?,
        minor.parse().ok()?,
    ))
}

/// mountinfo writes blanks, tabs, ends of lines and backslashes as octal numbers.
fn unescaped(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (written, letter)| {
        text.replace(written, letter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::makedev;

    fn place(uuid: Option<&str>, size_bytes: u64) -> Place {
        Place {
            device: 1,
            name: "sda1".into(),
            size_bytes,
            kind: uuid.map(|_| "vfat".into()),
            uuid: uuid.map(str::to_owned),
            part_uuid: None,
            path: "/a".into(),
            mounted: PathBuf::new(),
        }
    }

    #[test]
    fn a_medium_is_the_same_under_another_name_and_no_other_one_is() {
        let before = place(Some("1A2B-3C4D"), 1 << 30);
        let again = Place {
            device: 2,
            name: "sdb1".into(),
            ..before.clone()
        };
        assert!(before.is_same_medium(&again));
        for other in [
            place(Some("1A2B-3C4E"), 1 << 30),
            place(Some("1A2B-3C4D"), 1 << 29),
            place(None, 1 << 30),
            Place {
                kind: Some("exfat".into()),
                ..before.clone()
            },
            Place {
                part_uuid: Some("x".into()),
                ..before.clone()
            },
        ] {
            assert!(!before.is_same_medium(&other), "{other:?}");
        }
        assert_eq!(before.find(&mut Looked::new()), None);
    }

    #[test]
    fn a_path_is_cut_to_what_is_within_its_file_system() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      40 22 8:17 / /run/a\\040stick rw - vfat /dev/sdb1 rw\n\
                      41 22 8:17 /deep /run/a\\040stick/deep rw - vfat /dev/sdb1 rw\n\
                      42 22 8:33 / /run/other rw - vfat /dev/sdc1 rw\n";
        let found = |device, path| within(mounts, device, Path::new(path));
        let is = |path: &str, mounted: &str| Some((path.into(), mounted.into()));
        let stick = makedev(8, 17);
        assert_eq!(found(stick, "/run/a stick/x/y"), is("/x/y", "/run/a stick"));
        assert_eq!(found(stick, "/run/a stick/deep/y"), is("/deep/y", ""));
        assert_eq!(found(stick, "/run/other/y"), None);
        assert_eq!(found(makedev(8, 1), "/var/y"), is("/var/y", "/"));
        let over = format!("{mounts}43 40 8:49 / /run/a\\040stick rw - vfat /dev/sdd1 rw\n");
        for (mounts, at, device) in [
            (mounts, "/run/a stick", Some(stick)),
            (&over, "/run/a stick", Some(makedev(8, 49))),
            (&over, "/run/a", None),
        ] {
            assert_eq!(device_mounted_at(mounts, Path::new(at)), device, "{at}");
        }
        assert_eq!(
            places_of(mounts, stick),
            ["/run/a stick", "/run/a stick/deep"].map(PathBuf::from)
        );
        let places = mounted_places(mounts);
        assert_eq!(
            places,
            ["/", "/run/a stick", "/run/a stick/deep", "/run/other"].map(PathBuf::from)
        );
    }
}
