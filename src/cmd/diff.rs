//! `cowroot diff`: which files differ between a session and its base, as a list, and as an archive to carry over.
//!
//! This process has devices served, and takes them away whatever happens; a child of it mounts them, where nobody else
//! sees that, and reads. With the child everything that it mounted goes, however it ends.

pub(super) mod devices;
pub(super) mod look;
mod outputs;
mod show;

use std::io::{PipeReader, PipeWriter, Read, Write};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use self::devices::{Devices, Side};
use self::outputs::Outputs;
use super::interrupts::Interrupts;
use crate::cli::diff::Diff;
use crate::sys::{self, Forked};

/// What a child says by its exit code; what went wrong it says over a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done = 0,
    Failed = 1,
    /// Nothing was printed yet: a journal must be replayed first.
    BaseWantsReplay = 2,
    SessionWantsReplay = 3,
}

/// Compare, and leave nothing behind.
///
/// # Errors
/// What stands in the way of the devices or of reading them; or being asked to end meanwhile.
pub fn run(diff: &Diff) -> anyhow::Result<()> {
    super::require_root("comparing a session with its base")?;
    let interrupts = Interrupts::listen()?;
    devices::load_driver()?;
    let mut devices = Devices::default();
    let result = compare(diff, &mut devices, &interrupts);
    // The first error is the reason for the second, if there are two.
    let detached = devices.detach();
    result.and(detached)
}

fn compare(diff: &Diff, devices: &mut Devices, interrupts: &Interrupts) -> anyhow::Result<()> {
    devices.serve(diff)?;
    go_on(interrupts)?;
    let outputs = Outputs::open(diff)?;
    let look = |devices: &Devices, _: &mut PipeWriter| look::look(diff, devices, &outputs);
    let result = look_until_seen(devices, interrupts, &look).map(drop);
    if result.is_err() {
        outputs.remove();
    }
    result
}

/// What a child does: it looks at what is served, and may say something over a pipe, of a few KiB at most.
pub(super) type Look<'a> = dyn Fn(&Devices, &mut PipeWriter) -> anyhow::Result<End> + 'a;

/// Have a child look; where that shows that a journal must be replayed, into RAM, do so and begin again. What it said.
pub(super) fn look_until_seen(
    devices: &mut Devices,
    interrupts: &Interrupts,
    look: &Look<'_>,
) -> anyhow::Result<String> {
    loop {
        match look_apart(devices, interrupts, look)? {
            (End::BaseWantsReplay, _) => devices.replay(Side::Base)?,
            (End::SessionWantsReplay, _) => devices.replay(Side::Session)?,
            (End::Done | End::Failed, said) => return Ok(said),
        }
        go_on(interrupts)?;
    }
}

/// Look in a process of its own.
fn look_apart(
    devices: &Devices,
    interrupts: &Interrupts,
    look: &Look<'_>,
) -> anyhow::Result<(End, String)> {
    let (said, mut says) = std::io::pipe().context("making a pipe to a child")?;
    match sys::fork().context("making a child that mounts and reads")? {
        Forked::Child => {
            drop(said);
            let looked = begin().and_then(|()| look(devices, &mut says));
            let end = looked.unwrap_or_else(|error| {
                let _ = write!(says, "{error:#}");
                End::Failed
            });
            std::process::exit(end as i32)
        }
        Forked::Parent(child) => {
            drop(says);
            await_end(child, said, interrupts)
        }
    }
}

/// A child ends with its parent, and as others do.
fn begin() -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("tying the child to its parent")?;
    Interrupts::unlisten()
}

fn await_end(
    child: Pid,
    mut said: PipeReader,
    interrupts: &Interrupts,
) -> anyhow::Result<(End, String)> {
    let status = loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            Ok(status) => break status,
            Err(error) => return Err(error).context("waiting for the child that reads"),
        }
        if interrupts.wait(None)? {
            let _ = kill(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
            return Err(interrupted());
        }
    };
    let mut why = String::new();
    let _ = said.read_to_string(&mut why);
    let known = [End::Done, End::BaseWantsReplay, End::SessionWantsReplay];
    if let WaitStatus::Exited(_, code) = status
        && let Some(end) = known.into_iter().find(|&end| end as i32 == code)
    {
        return Ok((end, why));
    }
    match (status, why.is_empty()) {
        // A ctrl-C reaches both.
        (WaitStatus::Signaled(_, Signal::SIGINT | Signal::SIGHUP | Signal::SIGTERM, _), _) => {
            Err(interrupted())
        }
        (status, true) => {
            bail!("comparing: the child that reads ended without a word ({status:?})")
        }
        (_, false) => bail!("{why}"),
    }
}

pub(super) fn go_on(interrupts: &Interrupts) -> anyhow::Result<()> {
    match interrupts.wait(Some(std::time::Duration::ZERO))? {
        true => Err(interrupted()),
        false => Ok(()),
    }
}

fn interrupted() -> anyhow::Error {
    anyhow::anyhow!("looking at the files: interrupted; what was printed is not all")
}
