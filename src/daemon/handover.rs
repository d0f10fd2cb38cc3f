//! What a worker leaves with its supervisor, so that the next one can go on where it ended.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::{Context, bail};
use rkyv::rancor::Error as ArchiveError;
use rkyv::{Archive, Deserialize, Serialize};

use super::protocol::Report;
use crate::disk::watch::{Stamp, Watch};
use crate::sys;

/// A report has paths in it, which may be long.
const LONGEST: usize = 64 << 10;

const MAGIC: [u8; 4] = *b"COWH";
/// Of what one binary hands to another: `Handover`, the order of the descriptors, the layout of the map's memory and
/// of the staging's.
const VERSION: u32 = 3;

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

/// A store as it is handed over.
#[derive(Debug)]
pub(super) struct KeptStore {
    pub(super) state: StoreState,
    pub(super) files: Vec<File>,
}

/// All that a device needs to be served by another process. The order of the descriptors is that of the fields.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) handover: Handover,
    /// The view of the mounts that it is served in.
    pub(super) namespace: OwnedFd,
    /// Where it is asked.
    pub(super) listener: UnixListener,
    pub(super) base: File,
    /// What is watched.
    pub(super) watched: Vec<File>,
    /// Where logins look.
    pub(super) run: Option<File>,
    pub(super) store: Vec<File>,
}

impl Kept {
    /// Make it of what came with `Word::Ready`.
    ///
    /// # Errors
    /// There are too few descriptors.
    pub(super) fn of(handover: Handover, fds: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let mut fds = fds.into_iter();
        let mut next = || {
            fds.next()
                .context("taking over a device: a descriptor is missing")
        };
        let watched_files = if handover.watched.is_some() { 2 } else { 0 };
        let at_login = handover.at_login;
        Ok(Self {
            handover,
            namespace: next()?,
            listener: next()?.into(),
            base: next()?.into(),
            watched: (0..watched_files)
                .map(|_| next().map(File::from))
                .collect::<Result<_, _>>()?,
            run: at_login.then(&mut next).transpose()?.map(File::from),
            store: fds.map(File::from).collect(),
        })
    }

    /// Its descriptors, as `of` takes them.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let first = [
            self.namespace.as_fd(),
            self.listener.as_fd(),
            self.base.as_fd(),
        ];
        let files = self.watched.iter().chain(&self.run).chain(&self.store);
        first.into_iter().chain(files.map(AsFd::as_fd))
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
        };
        let bytes = handover.encode().unwrap();
        let read = Handover::decode(&bytes).unwrap();
        assert_eq!(read.base_change(), 2);
        assert_eq!((read.report, read.in_initramfs), (report, true));
        let mut other = bytes.clone();
        other[4] += 1;
        let error = Handover::decode(&other).unwrap_err().to_string();
        assert!(error.contains("it is of version 4"), "{error}");
        for len in 0..bytes.len() {
            assert!(Handover::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }
}
