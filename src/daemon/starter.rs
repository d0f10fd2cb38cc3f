//! Who started a daemon, and what it is told: over a pipe, as one line, or on a terminal.

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::wait::is_ready_before;

/// For how long one waits: a cowfile on a slow medium, or a large one, takes its time to open.
const START_HEARD: Duration = Duration::from_secs(180);

/// Whom to tell that the device is there, or why not.
#[derive(Debug)]
pub enum Starter {
    /// The process that started this one, over a pipe.
    Pipe(File),
    /// A person at a terminal: the device is printed, a failure returned.
    Terminal,
}

/// What a daemon tells its starter, as one line.
const READY: &str = "ready ";
const FAILED: &str = "failed ";

/// Wait for the daemon's line.
pub(super) fn hear_ready(mut reader: PipeReader) -> anyhow::Result<u32> {
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

impl Starter {
    /// Over a pipe that was inherited under a number that was on the command line.
    ///
    /// # Errors
    /// If nothing is open there.
    pub fn inherited(fd: i32) -> anyhow::Result<Self> {
        let fd =
            crate::sys::inherited_fd(fd).with_context(|| format!("taking over descriptor {fd}"))?;
        // Whatever this process starts must not hold the starter's pipe open.
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("keeping the starter's pipe")?;
        Ok(Self::Pipe(File::from(fd)))
    }

    /// The device is there.
    pub(super) fn ready(self, id: u32) {
        match self {
            // Whoever started it may be gone: the device is there all the same.
            Self::Pipe(mut pipe) => drop(writeln!(pipe, "{READY}{id}")),
            Self::Terminal => println!("/dev/ublkb{id}"),
        }
    }

    /// It is not. Whether somebody knows why now.
    ///
    /// # Errors
    /// Why, where a person is to be told.
    pub(super) fn failed(self, error: anyhow::Error) -> anyhow::Result<()> {
        match self {
            Self::Pipe(mut pipe) => {
                let reason = format!("{error:#}").replace('\n', " ");
                if writeln!(pipe, "{FAILED}{reason}").is_err() {
                    log::error!("{error:#}");
                }
                Ok(())
            }
            Self::Terminal => Err(error),
        }
    }
}
