//! Signals: what a worker does when somebody asks it to end, and what a supervisor hears.

use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::protocol::{self, Answer, Question};

/// How often a daemon that is asked to end looks whether its device is free, once a second.
const WAITS_FOR_USERS: u32 = 60;

/// When somebody asks this process to end: detach if nobody uses the device.
///
/// In the foreground that is a person at a terminal, who is told if it is in use. Elsewhere it is
/// systemd that stops a session or service: it waits, and so the device may become free meanwhile. A
/// root disk never does, and stays.
pub(super) fn mind(id: u32, in_foreground: bool) {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
        .into_iter()
        .collect();
    while signals.wait().is_ok() {
        let tries = if in_foreground { 1 } else { WAITS_FOR_USERS };
        for attempt in 1..=tries {
            match protocol::ask(id, &Question::Detach) {
                Ok(Some(Answer::Refused(reason))) if attempt == tries => log::warn!("{reason}"),
                Ok(Some(Answer::Refused(_))) => std::thread::sleep(Duration::from_secs(1)),
                Ok(_) => return,
                Err(error) => {
                    log::warn!("{error:#}");
                    break;
                }
            }
        }
    }
}

/// A root disk's server does not end because somebody sends it a signal. All are blocked but those
/// that say that this process itself has gone wrong; those that ask it to end are read.
pub(super) fn block() -> anyhow::Result<()> {
    let mut signals = SigSet::all();
    for fault in [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGABRT,
    ] {
        signals.remove(fault);
    }
    signals.thread_block().context("blocking signals")
}

/// What the supervisor reads: that its worker has ended, or that it is asked to end.
pub(super) fn read() -> anyhow::Result<SignalFd> {
    let signals: SigSet = [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
    ]
    .into_iter()
    .collect();
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("listening for signals")
}
