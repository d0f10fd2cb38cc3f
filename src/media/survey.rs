//! Which block devices the machine has, and what is on each.
//!
//! Each device is read in a thread of its own: a drive that spins up, or hangs on a bad disc, must
//! not keep a stick from being found.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::partition::{self, PartitionNames};
use super::probe::{Content, iso_bytes, probe};
use super::text;
use crate::disk::lost::{self, attribute, medium_version};
use crate::engine::units::SECTOR_BYTES;
use crate::sys;

/// A block device, and what was read from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The kernel's name: `sr0`, `sda1`.
    pub name: String,
    /// The whole disk this is a partition of.
    pub disk: Option<String>,
    /// Its size.
    pub size_bytes: u64,
    /// What it holds, if that was recognised.
    pub content: Option<Content>,
    /// Whether it carries a partition table.
    pub is_partitioned: bool,
    /// What it is called in its disk's partition table.
    pub names: PartitionNames,
    /// Why nothing could be read.
    pub trouble: Option<String>,
}

impl Seen {
    /// The device's node, as devtmpfs names it.
    #[must_use]
    pub fn device(&self) -> PathBuf {
        lost::node_named(&self.name)
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.device().display())?;
        if let Some(trouble) = &self.trouble {
            return f.write_str(trouble);
        }
        f.write_str(&text::size(self.size_bytes))?;
        match &self.content {
            Some(content) => write!(f, ", {}", content.kind)?,
            None if self.is_partitioned => f.write_str(", partitions")?,
            None => f.write_str(", nothing recognised")?,
        }
        let content = self.content.as_ref();
        for (word, value) in [
            ("LABEL", content.and_then(|content| content.label.as_ref())),
            ("UUID", content.and_then(|content| content.uuid.as_ref())),
            ("PARTLABEL", self.names.label.as_ref()),
            ("PARTUUID", self.names.uuid.as_ref()),
        ] {
            if let Some(value) = value {
                write!(f, ", {word}={value}")?;
            }
        }
        Ok(())
    }
}

const CLASS: &str = "/sys/class/block";

/// How long a device that could not be read is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Reads every block device once, and again when its medium may have changed.
#[derive(Debug)]
pub struct Survey {
    class: PathBuf,
    /// Each with the version of its medium, and when it was read.
    seen: BTreeMap<String, (u64, Instant, Seen)>,
    pending: BTreeSet<String>,
    results: Receiver<(u64, Seen)>,
    report: Sender<(u64, Seen)>,
    wake: UnixStream,
    woken: UnixStream,
}

impl Survey {
    /// A survey that has looked at nothing yet.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn new() -> std::io::Result<Self> {
        let (report, results) = channel();
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Self {
            class: CLASS.into(),
            seen: BTreeMap::new(),
            pending: BTreeSet::new(),
            results,
            report,
            wake,
            woken,
        })
    }

    /// Becomes readable when a device has been read.
    #[must_use]
    pub fn woken(&self) -> &UnixStream {
        &self.woken
    }

    /// Start reading what is new, and take in what has been read.
    pub fn refresh(&mut self) {
        let _ = std::io::copy(&mut &self.woken, &mut std::io::sink());
        for (version, seen) in self.results.try_iter() {
            self.pending.remove(&seen.name);
            self.seen
                .insert(seen.name.clone(), (version, Instant::now(), seen));
        }
        let present = present(&self.class);
        self.seen.retain(|name, _| present.contains(name));
        for name in present {
            if !self.pending.contains(&name) && self.is_stale(&name) {
                self.start(name);
            }
        }
    }

    /// What has been read so far, in the order of the names.
    pub fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.seen.values().map(|(_, _, seen)| seen)
    }

    /// The devices that have never answered yet.
    pub fn pending(&self) -> impl Iterator<Item = &str> {
        let never = |name: &&String| !self.seen.contains_key(*name);
        self.pending.iter().filter(never).map(String::as_str)
    }

    /// A device without a medium, or one that cannot be read, is read again and again, for nobody else
    /// may be polling it; but not without a pause.
    fn is_stale(&self, name: &str) -> bool {
        self.seen.get(name).is_none_or(|(version, read_at, seen)| {
            (seen.trouble.is_some() && read_at.elapsed() >= RETRY)
                || *version != medium_version(&self.class.join(name))
        })
    }

    fn start(&mut self, name: String) {
        let folder = self.class.join(&name);
        let report = self.report.clone();
        let Ok(mut wake) = self.wake.try_clone() else {
            return;
        };
        let named = name.clone();
        let thread = std::thread::Builder::new().name("probe".into());
        let started = thread.spawn(move || {
            let version = medium_version(&folder);
            // Nobody is left to hear of it if the survey has ended.
            let _ = report.send((version, look(named, &folder)));
            let _ = wake.write(&[1]);
        });
        if started.is_ok() {
            self.pending.insert(name);
        }
    }
}

/// Read one device, in this thread: it may take as long as the device does.
pub(super) fn look_at(name: &str) -> Seen {
    look(name.to_owned(), &Path::new(CLASS).join(name))
}

/// The block devices of a size that may be a medium, and which medium of its drive each has. One that was in a drive as `like`
/// is may be in another by now.
pub(super) fn of_size(bytes: u64, like: &str) -> Vec<(String, u64)> {
    let class = Path::new(CLASS);
    look_into_drives(class, is_kind(like, "sr"));
    let names = present(class).into_iter();
    let names = names.filter(|name| size_bytes(&class.join(name)) == bytes);
    names
        .map(|name| {
            let version = medium_version(&class.join(&name));
            (name, version)
        })
        .collect()
}

/// Have the kernel see what was put into drives, of discs or of others. An empty one's medium has no size; a drive for discs
/// keeps the last one's.
fn look_into_drives(class: &Path, of_discs: bool) {
    let names = std::fs::read_dir(class).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| is_kind(name, "sr") == of_discs) {
        let folder = class.join(&name);
        if of_discs || size_bytes(&folder) == 0 {
            let _seen_now = lost::is_loaded(&folder);
        }
    }
}

/// Names of the block devices that may be a medium: no RAM disks, and not what cowroot serves.
fn present(class: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(class).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| {
            !["ram", "zram", "ublkb"]
                .iter()
                .any(|kind| is_kind(name, kind))
        })
        .filter(|name| name.starts_with("sr") || size_bytes(&class.join(name)) > 0)
        .collect()
}

fn is_kind(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind)
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

fn number(folder: &Path, name: &str) -> Option<u64> {
    attribute(folder, name)?.parse().ok()
}

fn size_bytes(folder: &Path) -> u64 {
    number(folder, "size")
        .unwrap_or(0)
        .saturating_mul(SECTOR_BYTES)
}

/// Read one device.
fn look(name: String, folder: &Path) -> Seen {
    let mut seen = Seen {
        name,
        ..Seen::default()
    };
    let number = number(folder, "partition").and_then(|number| u32::try_from(number).ok());
    if let Some(number) = number {
        seen.disk = folder.canonicalize().ok().and_then(|folder| {
            let disk = folder.parent()?.file_name()?.to_str()?;
            Some(disk.to_owned())
        });
        seen.names = partition_names(folder, seen.disk.as_deref(), number);
    }
    match lost::open_drive(&seen.device(), 0) {
        // Reading it would fail, and fill the kernel's log each time.
        Ok(device) if matches!(sys::is_disc_ready(&device), Ok(false)) => {
            seen.trouble = Some("no disc in the drive, or not ready".into());
        }
        Ok(device) => {
            // Only now: opening a CD drive is what makes the kernel look at its disc.
            seen.size_bytes = size_bytes(folder);
            seen.content = probe(&device).filter(|content| {
                // xorriso can put a second beginning of the ISO into the gap before its boot partition.
                let is_cut_off = || iso_bytes(&device) > Some(seen.size_bytes);
                !(seen.disk.is_some() && content.kind == "iso9660" && is_cut_off())
            });
            let sector_bytes = self::number(&folder.join("queue"), "logical_block_size");
            seen.is_partitioned = partition::has_table(&device, sector_bytes.unwrap_or(512));
            if let Err(error) = std::os::unix::fs::FileExt::read_at(&device, &mut [0; 512], 0) {
                seen.trouble = Some(trouble(&error));
            }
        }
        Err(error) => seen.trouble = Some(trouble(&error)),
    }
    seen
}

fn trouble(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOMEDIUM) => "no disc in the drive".into(),
        _ => format!("cannot be read: {error}"),
    }
}

/// The kernel tells the names since 6.x; before that they are read from the disk's table.
fn partition_names(folder: &Path, disk: Option<&str>, number: u32) -> PartitionNames {
    let uevent = attribute(folder, "uevent").unwrap_or_default();
    let told = |key: &str| {
        uevent
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let (uuid, label) = (told("PARTUUID"), told("PARTNAME"));
    if uuid.is_some() {
        return PartitionNames { uuid, label };
    }
    let read = || {
        let disk = disk?;
        let queue = folder.join("../queue");
        let sector_bytes = self::number(&queue, "logical_block_size").unwrap_or(512);
        partition::names(
            &lost::open_drive(&lost::node_named(disk), 0).ok()?,
            number,
            sector_bytes,
        )
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_disks_and_our_own_devices_are_no_media() {
        let class = tempfile::tempdir().unwrap();
        for (name, size) in [
            ("sda", "8"),
            ("sda1", "4"),
            ("sr0", "0"),
            ("ram0", "8"),
            ("zram0", "8"),
            ("ublkb0", "8"),
            ("ublkb0p1", "8"),
            ("loop0", "0"),
            ("loop1", "8"),
            ("rambo", "8"),
        ] {
            std::fs::create_dir(class.path().join(name)).unwrap();
            std::fs::write(class.path().join(name).join("size"), size).unwrap();
        }
        let names: Vec<_> = present(class.path()).into_iter().collect();
        assert_eq!(names, ["loop1", "rambo", "sda", "sda1", "sr0"]);
    }

    #[test]
    fn the_kernels_word_on_a_partitions_name_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let uevent = "MAJOR=8\nPARTN=1\nPARTNAME=the live one\nPARTUUID=1a2b3c4d-01\n";
        std::fs::write(folder.path().join("uevent"), uevent).unwrap();
        let names = partition_names(folder.path(), None, 1);
        assert_eq!(names.uuid.as_deref(), Some("1a2b3c4d-01"));
        assert_eq!(names.label.as_deref(), Some("the live one"));
    }
}
