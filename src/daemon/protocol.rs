//! How other cowroot processes talk to a daemon: one message each way over a local socket.
//!
//! The socket is abstract (`\0cowroot/N`), so it outlives every change of root and mount, and there
//! is no file to clean up. Anybody may take such a name, so each side looks at who the other is: only
//! root is believed, and only root is listened to. (Such names belong to a network namespace: from
//! another one no daemon is seen.) A message is an envelope and an rkyv archive:
//!
//! ```text
//! offset 0   4 bytes   "COWC"
//! offset 4   u16       version of the messages, little-endian
//! offset 6   u16       zero
//! offset 8   u32       length of the archive in bytes, little-endian
//! offset 12            the archive
//! ```

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::socket::{Backlog, getsockopt, sockopt::PeerCredentials};
use rkyv::rancor::Error as ArchiveError;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::wait::is_ready_before;
use crate::sys;

const MAGIC: [u8; 4] = *b"COWC";
const VERSION: u16 = 6;
const LONGEST: u32 = 1 << 20;
/// Nobody may keep a daemon waiting for longer, for others want to ask too.
const HEARING: Duration = Duration::from_secs(2);
/// Customers that may wait for an answer at a time.
const BACKLOG: i32 = 128;
/// A detach waits for the last commit, on a medium that may be slow.
const DETACHING: Duration = Duration::from_secs(600);
/// Behind its answer a daemon has little to do, but the last user of a file system writes that back.
const ENDING: Duration = Duration::from_secs(120);
/// The other binary has to open the cowfile; where it cannot, that is tried again for a minute.
const UPGRADING: Duration = Duration::from_secs(120);
/// What a descriptor comes with.
const FD_FOLLOWS: &[u8] = b"+";
/// Anything else is answered at once, but while it detaches.
const ANSWERING: Duration = Duration::from_secs(10);

/// What a daemon can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Question {
    /// How is the device?
    Status,
    /// Take the device away and end.
    Detach,
    /// Hand the device to another binary; its descriptor follows.
    Upgrade,
    /// Begin a session of this name on what was written so far.
    NewSession(Option<String>),
    /// Call the first session what the second says.
    RenameSession(String, String),
    /// Which sessions are there?
    Sessions,
    /// Merge up to this session, or all, at the next boot, and drop what was merged at once or not; or do not merge.
    AskMerge(Option<String>, Option<bool>),
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Answer {
    /// To `Status`.
    Status(Box<Report>),
    /// It is done.
    Done,
    /// It is done, in words.
    Said(String),
    /// To `Sessions`: its superblock as it would be at this slot, as bytes.
    Superblock(u32, Vec<u8>),
    /// It was not done, and why.
    Refused(String),
    /// The device is gone and its daemon ends, but something failed on the way.
    Failed(String),
}

/// The state of a device.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize)]
pub struct Report {
    /// The N of /dev/ublkbN.
    pub id: u32,
    /// The block device's node.
    pub device: String,
    /// The daemon's process.
    pub pid: u32,
    /// Version of the daemon's binary.
    pub version: String,
    /// Path of the base, as the daemon opened it.
    pub base: String,
    /// Bytes of the base.
    pub base_bytes: u64,
    /// Bytes of the device.
    pub size_bytes: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// The cowfile.
    pub cow: CowReport,
    /// Requests served since the start.
    pub requests: u64,
    /// Requests that ended in an error since the start.
    pub failed_requests: u64,
    /// Requests under way, of at most `depth`.
    pub in_flight: u32,
    /// Requests that may be under way at a time.
    pub depth: u32,
    /// Bytes of RAM that its processes keep for themselves whatever happens.
    pub locked_bytes: u64,
    /// What happens, and has happened, when the daemon dies.
    pub recovery: Recovery,
    /// `ok`, `attention` where there are warnings, `waiting` for a medium that was pulled out, or `failed` where nobody serves it any more, or its base is another
    /// one by now.
    pub health: String,
    /// What somebody should do something about.
    pub warnings: Vec<String>,
}

/// Whether a device outlives its daemon.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize,
)]
pub struct Recovery {
    /// Another daemon goes on if this one dies.
    pub possible: bool,
    /// The process that sees to that.
    pub supervisor: Option<u32>,
    /// How often that has happened.
    pub count: u32,
    /// When it was the last time, in seconds since 1970.
    pub last_s: Option<u64>,
    /// Milliseconds for which nobody served the device then.
    pub last_pause_ms: u64,
}

/// The state of a cowfile.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize, serde::Serialize,
)]
pub struct CowReport {
    /// What kind of store: `tmpfs` or `cowfile`.
    pub store: String,
    /// Path of a cowfile, as the daemon opened it.
    pub path: Option<String>,
    /// The session in it that takes the writes, or lies below a tmpfs that does.
    pub session: Option<String>,
    /// When what is written becomes durable: `none` (never), `flush`, `interval:SECONDS` or `shutdown`.
    pub durability: String,
    /// Bytes it may hold.
    pub capacity_bytes: u64,
    /// Bytes of these that only a file system's metadata may take.
    pub reserve_bytes: u64,
    /// Bytes it holds.
    pub used_bytes: u64,
    /// Bytes of RAM the map takes.
    pub map_bytes: u64,
    /// Bytes acknowledged and not durable.
    pub uncommitted_bytes: u64,
    /// How many commits were made since the cowfile was.
    pub epoch: u64,
    /// When the last commit since the start was made, in seconds since 1970.
    pub last_commit_s: Option<u64>,
    /// Its medium fails: it can be read, and no write succeeds.
    pub broken: bool,
}

/// The name of a daemon's socket.
fn address(id: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("cowroot/{id}"))
}

/// Be the daemon of device `id`.
///
/// # Errors
/// If the name is taken, or the kernel has no sockets.
pub fn listen(id: u32) -> anyhow::Result<UnixListener> {
    let bind = || UnixListener::bind_addr(&address(id)?);
    bind().with_context(|| {
        format!("listening for commands to device {id} at '@cowroot/{id}'; `ss -xlp` says who has that name")
    })
}

/// Be the one whom customers see at the other end, of a socket that another process made (unix_listen in the kernel
/// takes down who called it last).
///
/// # Errors
/// The kernel's.
pub fn answer_for(listener: &UnixListener) -> anyhow::Result<()> {
    let backlog = Backlog::new(BACKLOG).context("listening for commands")?;
    nix::sys::socket::listen(listener, backlog).context("listening for commands")
}

/// Ask the daemon of device `id`; `None` if there is none.
///
/// A daemon that has detached is waited for until its process is gone: only then are the cowfile's lock and the
/// daemon's own mount of the cowfile's file system, so that who unmounts that file system next can pull the stick.
///
/// # Errors
/// If it does not answer in time, or in a version this binary does not speak, or has detached and does not end.
pub fn ask(id: u32, question: &Question) -> anyhow::Result<Option<Answer>> {
    ask_with(id, question, None)
}

/// The same, with a descriptor if the question has one.
///
/// # Errors
/// As `ask`.
pub fn ask_with(
    id: u32,
    question: &Question,
    fd: Option<BorrowedFd<'_>>,
) -> anyhow::Result<Option<Answer>> {
    let context = || format!("asking the daemon of /dev/ublkb{id}");
    let mut stream = match UnixStream::connect_addr(&address(id).with_context(context)?) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
        Err(error) => return Err(error).with_context(context),
    };
    if !is_trusted(&stream).with_context(context)? {
        bail!(
            "{}: whoever answers there is not root, so no cowroot daemon",
            context()
        );
    }
    let patience = match question {
        Question::Detach
        | Question::NewSession(_)
        | Question::RenameSession(..)
        | Question::AskMerge(..) => DETACHING,
        Question::Upgrade => UPGRADING,
        Question::Status | Question::Sessions => ANSWERING,
    };
    be_patient(&stream, patience).with_context(context)?;
    let process = match question {
        Question::Detach => process_of(&stream)
            .inspect_err(|error| log::warn!("{}: nobody waits for its end: {error:#}", context()))
            .ok(),
        _ => None,
    };
    let archive = rkyv::to_bytes::<ArchiveError>(question).with_context(context)?;
    send(&mut stream, &archive).with_context(context)?;
    if let Some(fd) = fd {
        sys::send_with_fds(stream.as_fd(), FD_FOLLOWS, &[fd]).with_context(context)?;
    }
    let archive = receive(&mut stream).with_context(context)?;
    let answer = rkyv::from_bytes::<Answer, ArchiveError>(&archive).with_context(context)?;
    if let Some(process) = process
        && matches!(answer, Answer::Done | Answer::Failed(_))
    {
        await_end(&process).with_context(context)?;
    }
    Ok(Some(answer))
}

/// The process at the other end: a descriptor that reads as ready once it has ended.
fn process_of(stream: &UnixStream) -> anyhow::Result<OwnedFd> {
    let credentials = getsockopt(stream, PeerCredentials)?;
    sys::pidfd_open(credentials.pid()).context("opening its process")
}

/// Wait until a daemon that has detached has ended.
fn await_end(process: &OwnedFd) -> anyhow::Result<()> {
    let has_ended = is_ready_before(process.as_fd(), Instant::now() + ENDING);
    if !has_ended.context("waiting for its end")? {
        bail!(
            "the device is gone, but its daemon has not ended within {} s; leave the cowfile's medium where it is \
             until it has (`ps` shows it as '@cowroot')",
            ENDING.as_secs()
        );
    }
    Ok(())
}

/// Read a question from a customer of `listen`.
///
/// # Errors
/// If the customer is not root, asks nothing in time, or something this binary does not understand.
pub fn hear(stream: &mut UnixStream) -> anyhow::Result<Question> {
    if !is_trusted(stream)? {
        bail!("hearing a question: only root may ask");
    }
    be_patient(stream, HEARING)?;
    let archive = receive(stream)?;
    rkyv::from_bytes::<Question, ArchiveError>(&archive).context("reading a question")
}

/// The descriptor that comes with a question, which has been heard.
///
/// # Errors
/// There is none.
pub fn hear_fd(stream: &UnixStream) -> anyhow::Result<OwnedFd> {
    let context = "hearing a question";
    let (_, fds) = sys::receive_with_fds(stream.as_fd(), FD_FOLLOWS.len()).context(context)?;
    let fd = fds.into_iter().next();
    fd.with_context(|| format!("{context}: its descriptor is missing"))
}

/// Answer it.
///
/// # Errors
/// If the customer has gone.
pub fn reply(stream: &mut UnixStream, answer: &Answer) -> anyhow::Result<()> {
    let archive = rkyv::to_bytes::<ArchiveError>(answer).context("writing an answer")?;
    send(stream, &archive)
}

/// Whether root is at the other end, or else the user this process runs as.
fn is_trusted(stream: &UnixStream) -> anyhow::Result<bool> {
    let credentials =
        getsockopt(stream, PeerCredentials).context("asking who is at the other end")?;
    Ok([0, nix::unistd::geteuid().as_raw()].contains(&credentials.uid()))
}

fn be_patient(stream: &UnixStream, patience: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))
}

fn send(stream: &mut impl Write, archive: &[u8]) -> anyhow::Result<()> {
    let length = u32::try_from(archive.len())
        .ok()
        .filter(|&length| length <= LONGEST)
        .context("the message is too long")?;
    let mut message = Vec::with_capacity(12 + archive.len());
    message.extend_from_slice(&MAGIC);
    message.extend_from_slice(&VERSION.to_le_bytes());
    message.extend_from_slice(&[0; 2]);
    message.extend_from_slice(&length.to_le_bytes());
    message.extend_from_slice(archive);
    stream.write_all(&message).context("sending a message")
}

fn receive(stream: &mut impl Read) -> anyhow::Result<AlignedVec> {
    let mut head = [0; 12];
    stream
        .read_exact(&mut head)
        .context("receiving a message")?;
    let [a, b, c, d, v0, v1, _, _, l0, l1, l2, l3] = head;
    if [a, b, c, d] != MAGIC {
        bail!("this is no cowroot speaking");
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        bail!(
            "it speaks version {version}, this binary version {VERSION}; use the cowroot that started it"
        );
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length > LONGEST {
        bail!("a message of {length} bytes is too long");
    }
    let mut archive = AlignedVec::new();
    archive.resize(usize::try_from(length)?, 0);
    stream
        .read_exact(&mut archive)
        .context("receiving a message")?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_asked_and_answers() {
        let id = 4_000_000_000 + std::process::id() % 1000;
        let listener = listen(id).unwrap();
        assert!(listen(id).is_err(), "one daemon for each device");
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(hear(&mut stream).unwrap(), Question::Detach);
            reply(&mut stream, &Answer::Refused("mounted at '/'".into())).unwrap();
        });
        assert_eq!(
            ask(id, &Question::Detach).unwrap(),
            Some(Answer::Refused("mounted at '/'".into()))
        );
        daemon.join().unwrap();
        assert_eq!(ask(id, &Question::Status).unwrap(), None, "nobody is there");
    }

    #[test]
    fn foreign_and_broken_messages_are_refused() {
        let archive = rkyv::to_bytes::<ArchiveError>(&Question::Status).unwrap();
        let mut good = Vec::new();
        send(&mut good, &archive).unwrap();
        assert!(receive(&mut &good[..]).is_ok());
        for (at, byte, reason) in [
            (0, b'X', "no cowroot"),
            (4, 9, "version 9"),
            (11, 1, "too long"),
        ] {
            let mut bad = good.clone();
            bad[at] = byte;
            let error = format!("{:#}", receive(&mut &bad[..]).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
        assert!(receive(&mut &good[..good.len() - 1]).is_err(), "cut short");
    }
}
