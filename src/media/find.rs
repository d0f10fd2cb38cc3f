//! Wait for the medium that was named.
//!
//! The kernel's uevents say when to look again; a look each second is the backstop, for an event can
//! be lost and a disc put into a drive announces nothing.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use super::source::Source;
use super::survey::{Seen, Survey};

const POLL: Duration = Duration::from_secs(1);

/// How long a medium that was found waits for devices that have not answered yet, and for sticks
/// that are plugged in and not yet disks: one of them may have the same name.
const SETTLE: Duration = Duration::from_secs(3);

/// The drivers that make a disk of a USB stick, a second or more after it was found.
const STICKS: [&str; 2] = [
    "/sys/bus/usb/drivers/usb-storage",
    "/sys/bus/usb/drivers/uas",
];

/// Wait at most `limit` for `source`, and a moment longer for devices that are being read: one of them
/// may be it, and the list of what was seen is to be whole. `each_look` runs before every look: it loads drivers.
///
/// # Errors
/// [`NotThere`], with the list of what is; or several media answer to its name.
pub fn wait_for(
    source: &Source,
    limit: Duration,
    each_look: &mut dyn FnMut(),
) -> anyhow::Result<Seen> {
    let started = Instant::now();
    let mut survey = Survey::new().context("preparing to look for media")?;
    // Without events the poll still finds it, a little later.
    let events = uevents().ok();
    let mut found_at = None;
    loop {
        each_look();
        survey.refresh();
        let seen: Vec<&Seen> = survey.seen().collect();
        let choice = choose(source, &seen);
        if choice != Choice::None {
            let found_at = *found_at.get_or_insert_with(Instant::now);
            let is_settled = matches!(source, Source::Device(_))
                || (survey.pending().next().is_none() && !STICKS.iter().any(is_disk_coming));
            if is_settled || found_at.elapsed() >= SETTLE {
                return choice.settle(source);
            }
        } else if started.elapsed() >= limit
            && (survey.pending().next().is_none() || started.elapsed() >= limit + SETTLE)
        {
            return Err(NotThere(not_found(source, limit, &survey)).into());
        }
        let left = match found_at {
            Some(_) => POLL / 10,
            None => limit.saturating_sub(started.elapsed()).max(POLL / 10),
        };
        wait(&survey, events.as_ref(), left.min(POLL));
    }
}

/// Whether a device bound to `driver` has no disk yet: its folder holds hosts, those targets, those
/// units, and a unit that is ready has a folder `block`.
fn is_disk_coming(driver: impl AsRef<Path>) -> bool {
    let below = |folders: Vec<PathBuf>, starts: &str| -> Vec<PathBuf> {
        let entries = folders.into_iter().flat_map(std::fs::read_dir).flatten();
        let entries = entries.flatten().filter(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with(starts)
        });
        entries.map(|entry| entry.path()).collect()
    };
    let is_number = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(|first: char| first.is_ascii_digit())
    };
    let interfaces = below(vec![driver.as_ref().to_owned()], "");
    interfaces
        .into_iter()
        .filter(|interface| is_number(interface))
        .any(|interface| {
            let mut units = below(below(vec![interface], "host"), "target");
            units = below(units, "");
            units.retain(|unit| is_number(unit));
            !units.iter().any(|unit| unit.join("block").is_dir())
        })
}

/// What a look came to.
#[derive(Debug, PartialEq, Eq)]
enum Choice<'a> {
    None,
    One(&'a Seen),
    Several(Vec<&'a Seen>),
}

impl Choice<'_> {
    fn settle(self, source: &Source) -> anyhow::Result<Seen> {
        match self {
            Self::One(seen) => Ok(seen.clone()),
            Self::None => bail!("finding the medium '{source}': it has gone"),
            Self::Several(several) => bail!(
                "finding the medium '{source}': {} media answer to that name; remove all but one, \
                 or name one by its device or its PARTUUID:{}",
                several.len(),
                list(several.into_iter())
            ),
        }
    }
}

/// The one device that answers to `source`, if there is one.
///
/// A disk and its partition with the same content are one medium (an isohybrid stick shows both):
/// the partition is taken, for it can be made read-only without its neighbours.
fn choose<'a>(source: &Source, seen: &[&'a Seen]) -> Choice<'a> {
    let matching: Vec<&Seen> = seen
        .iter()
        .filter(|seen| answers(source, seen))
        .copied()
        .collect();
    let is_shadowed = |disk: &Seen| {
        matching.iter().any(|partition| {
            partition.disk.as_ref() == Some(&disk.name) && partition.content == disk.content
        })
    };
    let mut matching: Vec<&Seen> = matching
        .iter()
        .filter(|seen| !is_shadowed(seen))
        .copied()
        .collect();
    match (matching.pop(), matching.is_empty()) {
        (None, _) => Choice::None,
        (Some(one), true) => Choice::One(one),
        (Some(one), false) => {
            matching.push(one);
            Choice::Several(matching)
        }
    }
}

/// Whether `seen` is a medium that is called so.
#[must_use]
pub fn answers(source: &Source, seen: &Seen) -> bool {
    let content = seen.content.as_ref();
    let same = |found: Option<&String>, asked: &str| {
        found.is_some_and(|found| found.eq_ignore_ascii_case(asked))
    };
    match source {
        Source::Label(asked) => {
            content.is_some_and(|content| content.label.as_ref() == Some(asked))
        }
        Source::Uuid(asked) => same(content.and_then(|content| content.uuid.as_ref()), asked),
        Source::PartUuid(asked) => same(seen.names.uuid.as_ref(), asked),
        Source::PartLabel(asked) => seen.names.label.as_ref() == Some(asked),
        Source::Device(path) => seen.trouble.is_none() && is_device(path, &seen.device()),
        // No device is one.
        Source::Nfs(_) => false,
    }
}

/// The path itself, or a link to the device.
fn is_device(path: &Path, device: &Path) -> bool {
    path == device || path.canonicalize().is_ok_and(|path| path == device)
}

/// What was asked for is not there: neither damaged, nor another one, nor in use.
#[derive(Debug)]
pub struct NotThere(pub String);

impl fmt::Display for NotThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotThere {}

fn not_found(source: &Source, limit: Duration, survey: &Survey) -> String {
    let mut seen = list(survey.seen());
    for name in survey.pending() {
        seen.push_str(&format!("\n  /dev/{name}: has not answered yet"));
    }
    if seen.is_empty() {
        seen = " none; is the driver of its disk controller in the initramfs?".into();
    }
    format!(
        "finding the medium '{source}': not there after {} s; check its name, or wait longer with \
         cowroot.wait=<s>. Block devices seen:{seen}",
        limit.as_secs()
    )
}

fn list<'a>(seen: impl Iterator<Item = &'a Seen>) -> String {
    seen.map(|seen| format!("\n  {seen}")).collect()
}

/// A socket that hears of every device the kernel finds.
fn uevents() -> nix::Result<OwnedFd> {
    const KERNEL: u32 = 1;
    let events = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    bind(events.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
    Ok(events)
}

/// Until something happened, at most `limit`.
fn wait(survey: &Survey, events: Option<&OwnedFd>, limit: Duration) {
    let fds = [Some(survey.woken().as_fd()), events.map(AsFd::as_fd)];
    let mut fds: Vec<PollFd> = fds
        .into_iter()
        .flatten()
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
    if nix::poll::poll(&mut fds, timeout).is_err() {
        // Never spin: what poll has against us will not pass quickly.
        std::thread::sleep(limit.min(Duration::from_millis(100)));
    }
    let Some(events) = events else { return };
    let mut event = [0; 8192];
    // What they say does not matter, for every device is looked at. ENOBUFS means that some were
    // lost, and is as good a reason to look.
    while recv(events.as_raw_fd(), &mut event, MsgFlags::empty()).is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::super::partition::PartitionNames;
    use super::super::probe::Content;
    use super::*;

    fn seen(name: &str, disk: Option<&str>, label: &str) -> Seen {
        Seen {
            name: name.into(),
            disk: disk.map(str::to_owned),
            size_bytes: 1 << 20,
            content: Some(Content {
                kind: "iso9660",
                label: Some(label.into()),
                uuid: Some("2026-01-01-00-00-00-00".into()),
            }),
            is_partitioned: false,
            names: PartitionNames::default(),
            trouble: None,
        }
    }

    #[test]
    fn two_media_of_one_name_are_refused_but_a_disk_and_its_partition_are_one() {
        let live = || Source::Label("LIVE".into());
        for (claim, devices, expected) in [
            ("nothing", vec![], "none"),
            ("another", vec![seen("sda", None, "OTHER")], "none"),
            ("one", vec![seen("sr0", None, "LIVE")], "sr0"),
            (
                "an isohybrid stick is its partition",
                vec![seen("sda", None, "LIVE"), seen("sda1", Some("sda"), "LIVE")],
                "sda1",
            ),
            (
                "a disk and its partition with different content",
                vec![
                    Seen {
                        content: Some(Content {
                            kind: "ext4",
                            label: Some("LIVE".into()),
                            uuid: None,
                        }),
                        ..seen("sda", None, "")
                    },
                    seen("sda1", Some("sda"), "LIVE"),
                ],
                "several",
            ),
            (
                "two sticks",
                vec![seen("sda", None, "LIVE"), seen("sdb", None, "LIVE")],
                "several",
            ),
            (
                "a CD and a hybrid stick",
                vec![
                    seen("sda", None, "LIVE"),
                    seen("sda1", Some("sda"), "LIVE"),
                    seen("sr0", None, "LIVE"),
                ],
                "several",
            ),
        ] {
            let devices: Vec<&Seen> = devices.iter().collect();
            let found = match choose(&live(), &devices) {
                Choice::None => "none".to_owned(),
                Choice::One(seen) => seen.name.clone(),
                Choice::Several(_) => "several".to_owned(),
            };
            assert_eq!(found, expected, "{claim}");
        }
    }

    #[test]
    fn each_kind_of_name_is_compared_with_its_own_field() {
        let mut device = seen("vda2", Some("vda"), "LIVE");
        device.names = PartitionNames {
            uuid: Some("1a2b3c4d-02".into()),
            label: Some("part".into()),
        };
        for (source, expected) in [
            (Source::Label("LIVE".into()), true),
            (Source::Label("live".into()), false),
            (Source::Uuid("2026-01-01-00-00-00-00".into()), true),
            (Source::Uuid("LIVE".into()), false),
            (Source::PartUuid("1A2B3C4D-02".into()), true),
            (Source::PartUuid("1a2b3c4d-01".into()), false),
            (Source::PartLabel("part".into()), true),
            (Source::PartLabel("LIVE".into()), false),
            (Source::Device("/dev/vda2".into()), true),
            (Source::Device("/dev/vda".into()), false),
        ] {
            assert_eq!(answers(&source, &device), expected, "{source}");
        }
    }

    #[test]
    fn a_stick_that_is_not_yet_a_disk_is_waited_for() {
        let driver = tempfile::tempdir().unwrap();
        let make = |path: &str| std::fs::create_dir_all(driver.path().join(path)).unwrap();
        make("module");
        assert!(!is_disk_coming(driver.path()), "nothing is bound");
        for (path, expected) in [
            ("1-1:1.0/host2/scsi_host", true),
            ("1-1:1.0/host2/target2:0:0/2:0:0:0/scsi_device", true),
            ("1-1:1.0/host2/target2:0:0/2:0:0:0/block/sda", false),
            ("1-2:1.0/power", true),
        ] {
            make(path);
            assert_eq!(is_disk_coming(driver.path()), expected, "{path}");
        }
    }

    #[test]
    fn several_media_are_refused_with_a_list_and_a_way_out() {
        let (one, two) = (seen("sda", None, "LIVE"), seen("sdb", None, "LIVE"));
        let choice = Choice::Several(vec![&one, &two]);
        let error = choice.settle(&Source::Label("LIVE".into())).unwrap_err();
        let text = error.to_string();
        for part in [
            "'LABEL=LIVE'",
            "PARTUUID",
            "/dev/sda: 1 MiB, iso9660",
            "/dev/sdb: ",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
