//! The daemon: the processes that serve a device. Started here; `supervisor` lives as long as the device, and makes
//! the `worker` that serves it, and the next one when that one dies.

mod apart;
mod away;
mod confine;
pub mod detach;
mod given_up;
mod handover;
mod kept;
mod login;
mod opening;
mod patience;
mod persistent;
mod protect;
pub mod protocol;
mod reopening;
mod report;
mod seeking;
mod sessions;
mod showing;
mod signals;
pub mod starter;
mod store;
pub mod supervisor;
mod telling;
pub mod upgrade;
mod volatile;
mod wait;
mod worker;

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::media::open::{CowStore, Durability};
use crate::media::session::Wish;

/// Within this time the kernel makes a device, or the daemon says that it did not.
const START: Duration = Duration::from_secs(10);

/// For so many seconds a medium that was pulled out is waited for, where nobody says otherwise.
pub const LOST_S: u32 = 30;

/// What to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// A regular file or block device, never written.
    pub base: PathBuf,
    /// The file on a server that the base lies in, if it is not that file itself.
    pub carrier: Option<PathBuf>,
    /// What takes the writes.
    pub cow: CowStore,
    /// What whoever asks how the device is must know of that.
    pub notice: Option<String>,
    /// When that becomes durable, where it can.
    pub durability: Durability,
    /// The N of /dev/ublkbN, or the first free one.
    pub id: Option<u32>,
    /// Which session of a cowfile.
    pub session: Wish,
    /// Size of the device in bytes where it is larger than its base.
    pub size_bytes: Option<u64>,
    /// Refuse every write to the device.
    pub read_only: bool,
    /// For how long a medium that was pulled out is waited for; 0 is not at all.
    pub lost_s: u32,
}

/// A device that is being served.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The N of /dev/ublkbN.
    pub id: u32,
    /// The supervisor's process.
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
    match starter::hear_ready(reader) {
        Ok(id) => Ok(Attached { id, pid }),
        Err(error) => {
            end(&mut child);
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
    command.arg("--session").arg(options.session.to_string());
    command.arg("--ready-fd").arg(ready_fd.to_string());
    if let Some(id) = options.id {
        command.arg("--id").arg(id.to_string());
    }
    if let Some(size_bytes) = options.size_bytes {
        command.arg("--size").arg(size_bytes.to_string());
    }
    if let Some(carrier) = &options.carrier {
        command.arg("--carrier").arg(carrier);
    }
    if let Some(notice) = &options.notice {
        command.arg("--notice").arg(notice);
    }
    command.arg("--lost").arg(options.lost_s.to_string());
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
    // Nor is it meant by a ctrl-C at that program's terminal.
    command.process_group(0);
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

/// End a daemon that did not become one.
fn end(child: &mut Child) {
    // It has ended already, or it hangs and nothing is lost with it.
    let _ = child.kill();
    let _ = child.wait();
}
