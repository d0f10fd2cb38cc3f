//! The daemon: the process that serves a device. Started here, lives in `serve`, stopped from here.

mod persistent;
mod protect;
pub mod protocol;
pub mod serve;
mod store;
mod volatile;
mod wait;

use std::ffi::OsString;
use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use self::wait::is_ready_before;
use crate::media::open::{CowStore, Durability};
use crate::ublk;

/// Within this time the kernel makes a device, or the daemon says that it did not.
const START: Duration = Duration::from_secs(10);
/// Its starter waits for longer: a cowfile on a slow medium, or a large one, takes its time to open.
const START_HEARD: Duration = Duration::from_secs(180);

/// What to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// A regular file or block device, never written.
    pub base: PathBuf,
    /// What takes the writes.
    pub cow: CowStore,
    /// When that becomes durable, where it can.
    pub durability: Durability,
    /// The N of /dev/ublkbN, or the first free one.
    pub id: Option<u32>,
    /// Size of the device in bytes where it is larger than its base.
    pub size_bytes: Option<u64>,
    /// Refuse every write to the device.
    pub read_only: bool,
}

/// A device that is being served.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The N of /dev/ublkbN.
    pub id: u32,
    /// The daemon's process.
    pub pid: u32,
}

impl Attached {
    /// The block device's node, as devtmpfs names it.
    #[must_use]
    pub fn device(&self) -> PathBuf {
        PathBuf::from(format!("/dev/ublkb{}", self.id))
    }
}

/// Start a daemon in a process of its own and wait until its device is there.
///
/// # Errors
/// What the daemon reported, or that it died or said nothing in time. Nothing is left behind then.
pub fn launch(options: &Options) -> anyhow::Result<Attached> {
    // The daemon outlives this process: a lock, pipe or file it inherited would be held for ever.
    crate::sys::close_all_on_exec().context("keeping descriptors from the daemon")?;
    let (reader, writer) = std::io::pipe().context("making a pipe to the daemon")?;
    fcntl(&writer, FcntlArg::F_SETFD(FdFlag::empty())).context("handing the pipe to the daemon")?;
    let mut child = command(options, writer.as_raw_fd())?
        .spawn()
        .context("starting the daemon")?;
    drop(writer);
    let pid = child.id();
    match hear_ready(reader) {
        Ok(id) => Ok(Attached { id, pid }),
        Err(error) => {
            end(&mut child);
            ublk::devices::delete_leftovers(pid);
            Err(error)
        }
    }
}

/// The daemon's command line. Its name begins with '@' so that systemd does not kill it at
/// switch-root or shutdown (systemd.io/ROOT_STORAGE_DAEMONS).
fn command(options: &Options, ready_fd: i32) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    let base = std::path::absolute(&options.base).context("resolving the base's path")?;
    command.arg0("@cowroot").arg("serve").arg("--kmsg");
    command
        .arg("--base")
        .arg(base)
        .arg("--cow")
        .arg(cow_word(&options.cow)?)
        .arg("--durability")
        .arg(options.durability.to_string());
    command.arg("--ready-fd").arg(ready_fd.to_string());
    if let Some(id) = options.id {
        command.arg("--id").arg(id.to_string());
    }
    if let Some(size_bytes) = options.size_bytes {
        command.arg("--size").arg(size_bytes.to_string());
    }
    if options.read_only {
        command.arg("--read-only");
    }
    if log::max_level() >= log::LevelFilter::Debug {
        command.arg("--verbose");
    }
    // Whoever reads this program's output must not wait for the daemon to end.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

/// A store as the daemon is told of it, which may have another current folder.
fn cow_word(cow: &CowStore) -> anyhow::Result<OsString> {
    match cow {
        CowStore::Tmpfs(_) => Ok(cow.to_string().into()),
        CowStore::File(path) => Ok(std::path::absolute(path)
            .context("resolving the cowfile's path")?
            .into()),
    }
}

/// What a daemon tells its starter, as one line.
const READY: &str = "ready ";
const FAILED: &str = "failed ";

/// Wait for the daemon's line.
fn hear_ready(mut reader: PipeReader) -> anyhow::Result<u32> {
    let deadline = Instant::now() + START_HEARD;
    let mut heard = Vec::new();
    loop {
        let heard_in_time = is_ready_before(reader.as_fd(), deadline);
        if !heard_in_time.context("waiting for the daemon")? {
            bail!(
                "starting the daemon: no word from it within {} s; the kernel's log may say why",
                START_HEARD.as_secs()
            );
        }
        let mut piece = [0; 512];
        let count = reader.read(&mut piece).context("listening to the daemon")?;
        heard.extend_from_slice(piece.get(..count).unwrap_or_default());
        if count == 0 || heard.ends_with(b"\n") {
            break;
        }
    }
    let line = String::from_utf8_lossy(&heard);
    if let Some(reason) = line.strip_prefix(FAILED) {
        bail!("{}", reason.trim_end());
    }
    let id = line
        .strip_prefix(READY)
        .and_then(|id| id.trim_end().parse().ok());
    id.context("starting the daemon: it ended without a word; the kernel's log may say why")
}

/// End a daemon that did not become one.
fn end(child: &mut Child) {
    // It has ended already, or it hangs and nothing is lost with it.
    let _ = child.kill();
    let _ = child.wait();
}

/// A descriptor to tell one's starter on, inherited under a number that was on the command line.
///
/// # Errors
/// If nothing is open there.
pub fn starter(fd: i32) -> anyhow::Result<File> {
    let fd =
        crate::sys::inherited_fd(fd).with_context(|| format!("taking over descriptor {fd}"))?;
    // Whatever this process starts must not hold the starter's pipe open.
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("keeping the starter's pipe")?;
    Ok(File::from(fd))
}
