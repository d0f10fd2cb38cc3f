//! What a worker leaves with its supervisor, so that the next one can go on where it ended.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Instant;

use anyhow::{Context, bail};
use rkyv::rancor::Error as ArchiveError;
use rkyv::{Archive, Deserialize, Serialize};

use super::protocol::Report;
use super::wait::is_ready_before;
use crate::disk::stamp::Stamp;
use crate::disk::watch::Watch;
use crate::engine::format::description::Identity;
use crate::media::place::Place;
use crate::sys;

/// A report has paths in it, which may be long.
const LONGEST: usize = 64 << 10;

const MAGIC: [u8; 4] = *b"COWH";
/// Of what one binary hands to another: `Handover`, the order of the descriptors, the layout of the map's memory and
/// of the staging's.
const VERSION: u32 = 5;

/// What a worker tells its supervisor: what became of its start, once; then what only a supervisor can do.
#[derive(Debug, Archive, Serialize, Deserialize)]
pub(super) enum Word {
    /// The device is there; with the descriptors of `Kept`.
    Ready(Box<Handover>),
    /// It is served again.
    Recovered,
    /// It is not, and why.
    Failed(String),
    /// Somebody asks for an upgrade; with the new binary, and the socket to answer on.
    Upgrade,
    /// These block devices are gone.
    Lost(Vec<u64>),
    /// What was on them is found again, here; with base, cowfile and folder, those of them that are.
    Found(Box<Found>),
}

/// What lies somewhere else now.
#[derive(Debug, Archive, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) base: Option<KeptPlace>,
    pub(super) cow: Option<KeptPlace>,
}

impl Found {
    /// What was found, for people.
    pub(super) fn named(&self) -> String {
        named(&self.base, &self.cow, |_| true)
    }

    /// The devices that it is on.
    pub(super) fn devices(&self) -> Vec<u64> {
        let places = [&self.base, &self.cow].into_iter().flatten();
        places.map(|place| place.device).collect()
    }
}

fn named(
    base: &Option<KeptPlace>,
    cow: &Option<KeptPlace>,
    is_meant: impl Fn(u64) -> bool,
) -> String {
    let node = |place: &Option<KeptPlace>| {
        let place = place.as_ref().filter(|place| is_meant(place.device))?;
        Some(Place::from(place).node())
    };
    match (node(base), node(cow)) {
        (Some(one), Some(other)) if one == other => {
            format!("the medium of base and cowfile, '{}',", one.display())
        }
        (Some(one), Some(other)) => {
            let (one, other) = (one.display(), other.display());
            format!("the media of base and cowfile, '{one}' and '{other}',")
        }
        (Some(base), None) => format!("the medium of its base, '{}',", base.display()),
        (None, Some(cow)) => format!("the medium of its cowfile, '{}',", cow.display()),
        (None, None) => "its medium".to_owned(),
    }
}

/// A `Place`.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub(super) struct KeptPlace {
    pub(super) device: u64,
    name: String,
    size_bytes: u64,
    kind: Option<String>,
    uuid: Option<String>,
    part_uuid: Option<String>,
    path: Vec<u8>,
    mounted: Vec<u8>,
}

impl From<&Place> for KeptPlace {
    fn from(place: &Place) -> Self {
        Self {
            device: place.device,
            name: place.name.clone(),
            size_bytes: place.size_bytes,
            kind: place.kind.clone(),
            uuid: place.uuid.clone(),
            part_uuid: place.part_uuid.clone(),
            path: place.path.as_os_str().as_bytes().to_vec(),
            mounted: place.mounted.as_os_str().as_bytes().to_vec(),
        }
    }
}

impl From<&KeptPlace> for Place {
    fn from(kept: &KeptPlace) -> Self {
        Self {
            device: kept.device,
            name: kept.name.clone(),
            size_bytes: kept.size_bytes,
            kind: kept.kind.clone(),
            uuid: kept.uuid.clone(),
            part_uuid: kept.part_uuid.clone(),
            path: OsString::from_vec(kept.path.clone()).into(),
            mounted: OsString::from_vec(kept.mounted.clone()).into(),
        }
    }
}

/// Media that can be pulled out and put back.
#[derive(Debug, Clone, Default, Archive, Serialize, Deserialize)]
pub(super) struct Media {
    /// For so many seconds they are waited for.
    pub(super) wait_s: u32,
    pub(super) base: Option<KeptPlace>,
    pub(super) cow: Option<KeptPlace>,
    /// What the base is, where no cowfile says it; and what its samples were chosen by.
    pub(super) identity: Option<(Identity, [u8; 16])>,
    /// Where on its medium the cowfile's superblocks are, for one whose file system must not be looked into before:
    /// offset in the file, place, bytes.
    pub(super) spots: Vec<[u64; 3]>,
}

impl Media {
    /// The block devices that may come back.
    pub(super) fn devices(&self) -> Vec<u64> {
        let places = [&self.base, &self.cow].into_iter().flatten();
        match self.wait_s {
            0 => Vec::new(),
            _ => places.map(|place| place.device).collect(),
        }
    }

    /// What lies on these devices, for people.
    pub(super) fn named(&self, devices: &[u64]) -> String {
        named(&self.base, &self.cow, |device| devices.contains(&device))
    }
}

/// What is known of a device that is served.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub(super) struct Handover {
    /// As it was at the start.
    pub(super) report: Report,
    /// It was started in an initramfs, so the machine must not hibernate.
    pub(super) in_initramfs: bool,
    /// A login says how full its cowfile is; with the descriptor of the machine's /run.
    pub(super) at_login: bool,
    pub(super) store: StoreState,
    /// Of a base on a server; with the descriptors of the file that is watched, and of its folder.
    pub(super) watched: Option<Watched>,
    pub(super) media: Media,
}

/// What a file on a server was when the first worker opened it.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub(super) struct Watched {
    pub(super) path: Vec<u8>,
    pub(super) first: [u64; 6],
    /// What has become of it since; for another binary.
    pub(super) change: u32,
}

impl Watched {
    pub(super) fn of(watch: &Watch) -> Self {
        let (path, _, Stamp(first)) = watch.left();
        Self {
            path,
            first,
            change: 0,
        }
    }
}

/// What is known of its store beside what is in its files.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub(super) enum StoreState {
    /// A session in RAM; its files are cowfile and map.
    Ram {
        capacity_slots: u32,
        reserve_slots: u32,
        /// A stored session that it lies over, if it does; with that one's files.
        over: Option<OverState>,
    },
    /// A persistent one; its files are the staging's memory, the cowfile's first file, and its folder where it
    /// has siblings.
    Medium {
        /// The first file's, within the folder.
        name: Vec<u8>,
        /// Which cowfile the staging is of.
        store: [u8; 16],
        /// Chunks of the device.
        chunks: u64,
        fanout_shift: u8,
        staging_chunks: u32,
        /// What is looked at, where nothing is written.
        layer: u8,
        /// As the first worker found it: incarnation and last epoch.
        found: [u64; 2],
    },
}

/// A stored session that is only read.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub(super) struct OverState {
    /// The name of the cowfile's first file, within its folder.
    pub(super) name: Vec<u8>,
    pub(super) layer: u8,
}

impl Handover {
    /// What has become of a base on a server: 0, or the number of a `Change`.
    pub(super) fn base_change(&self) -> u32 {
        self.watched.as_ref().map_or(0, |watched| watched.change)
    }

    /// As bytes, for another binary.
    ///
    /// # Errors
    /// There is no memory for them.
    pub(super) fn encode(&self) -> anyhow::Result<Vec<u8>> {
        let archive = rkyv::to_bytes::<ArchiveError>(self).context("writing the handover")?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&archive);
        Ok(bytes)
    }

    /// What another binary wrote.
    ///
    /// # Errors
    /// It is of another version, or makes no sense.
    pub(super) fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        let context = "reading what the other binary hands over";
        let head = bytes.split_first_chunk::<4>();
        let (magic, rest) = head.with_context(|| format!("{context}: too short"))?;
        let (version, rest) = rest
            .split_first_chunk::<4>()
            .with_context(|| format!("{context}: too short"))?;
        let version = u32::from_le_bytes(*version);
        if *magic != MAGIC || version != VERSION {
            bail!(
                "{context}: it is of version {version}, this binary knows version {VERSION}; detach the device and attach \
                 it with this binary"
            );
        }
        let mut archive = rkyv::util::AlignedVec::<16>::new();
        archive.extend_from_slice(rest);
        // What rkyv says of such bytes is nothing.
        rkyv::from_bytes::<Self, ArchiveError>(&archive)
            .map_err(|_| anyhow::anyhow!("{context}: it is damaged"))
    }
}

/// Tell the supervisor.
///
/// # Errors
/// It is gone.
pub(super) fn tell(
    supervisor: BorrowedFd<'_>,
    word: &Word,
    fds: &[BorrowedFd<'_>],
) -> anyhow::Result<()> {
    let archive = rkyv::to_bytes::<ArchiveError>(word).context("telling the supervisor")?;
    sys::send_with_fds(supervisor, &archive, fds).context("telling the supervisor")
}

/// What a worker has told; `None` if it is gone without a word more.
///
/// # Errors
/// It makes no sense.
pub(super) fn heard(worker: &OwnedFd) -> anyhow::Result<Option<(Word, Vec<OwnedFd>)>> {
    let context = "hearing a worker";
    let (message, fds) = sys::receive_with_fds(worker.as_fd(), LONGEST).context(context)?;
    if message.is_empty() {
        return Ok(None);
    }
    let mut archive = rkyv::util::AlignedVec::<16>::new();
    archive.extend_from_slice(&message);
    match rkyv::from_bytes::<Word, ArchiveError>(&archive) {
        Ok(word) => Ok(Some((word, fds))),
        Err(error) => bail!("{context}: {error}"),
    }
}

/// All that a worker has told by now, and whether it may tell more. One that has just taken over and ends says two
/// things at once.
pub(super) fn all_heard(worker: &OwnedFd) -> (Vec<(Word, Vec<OwnedFd>)>, anyhow::Result<bool>) {
    let mut words = Vec::new();
    loop {
        match is_ready_before(worker.as_fd(), Instant::now()) {
            Ok(true) => {}
            Ok(false) => return (words, Ok(true)),
            Err(error) => return (words, Err(error).context("hearing a worker")),
        }
        match heard(worker) {
            Ok(Some(word)) => words.push(word),
            Ok(None) => return (words, Ok(false)),
            Err(error) => return (words, Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::protocol::{CowReport, Recovery};

    #[test]
    fn another_binary_reads_what_was_handed_over_unless_it_is_of_another_version() {
        let report = Report {
            id: 3,
            device: "/dev/ublkb3".into(),
            pid: 1,
            version: "0".into(),
            base: "/b".into(),
            base_bytes: 1,
            size_bytes: 512,
            read_only: false,
            cow: CowReport::default(),
            requests: 0,
            failed_requests: 0,
            in_flight: 0,
            depth: 63,
            locked_bytes: 0,
            recovery: Recovery::default(),
            health: "ok".into(),
            warnings: Vec::new(),
        };
        let handover = Handover {
            report: report.clone(),
            in_initramfs: true,
            at_login: true,
            store: StoreState::Ram {
                capacity_slots: 9,
                reserve_slots: 1,
                over: None,
            },
            watched: Some(Watched {
                path: b"/b".into(),
                first: [1; 6],
                change: 2,
            }),
            media: Media::default(),
        };
        let bytes = handover.encode().unwrap();
        let read = Handover::decode(&bytes).unwrap();
        assert_eq!(read.base_change(), 2);
        assert_eq!((read.report, read.in_initramfs), (report, true));
        let mut other = bytes.clone();
        other[4] += 1;
        let error = Handover::decode(&other).unwrap_err().to_string();
        assert!(error.contains("it is of version 6"), "{error}");
        for len in 0..bytes.len() {
            assert!(Handover::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn who_says_two_things_and_ends_is_heard_to_the_end() {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        let pair = || {
            let family = (AddressFamily::Unix, SockType::SeqPacket);
            socketpair(family.0, family.1, None, SockFlag::empty()).unwrap()
        };
        let (ours, theirs) = pair();
        assert!(matches!(all_heard(&ours), (words, Ok(true)) if words.is_empty()));
        tell(theirs.as_fd(), &Word::Recovered, &[]).unwrap();
        tell(theirs.as_fd(), &Word::Lost(vec![7]), &[]).unwrap();
        drop(theirs);
        let (words, more) = all_heard(&ours);
        let words: Vec<_> = words.into_iter().map(|(word, _)| word).collect();
        assert!(
            matches!(words.as_slice(), [Word::Recovered, Word::Lost(gone)] if *gone == [7]),
            "{words:?}"
        );
        assert!(!more.unwrap());
    }
}
