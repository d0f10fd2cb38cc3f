//! Being asked to end (ctrl-C, SIGTERM, a terminal that goes), for commands that have something to end first.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Hears it; until it is looked at nothing happens.
pub(super) struct Interrupts {
    fd: SignalFd,
}

impl Interrupts {
    /// From now on. Also hears that a child has ended, which ends a wait.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let context = "listening for signals";
        let signals = signals();
        signals.thread_block().context(context)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&signals, flags).context(context)?;
        Ok(Self { fd })
    }

    /// In a child: no longer.
    pub(super) fn unlisten() -> anyhow::Result<()> {
        signals()
            .thread_unblock()
            .context("letting signals through")
    }

    /// Wait for so long, or for ever, or until there is a signal. Whether this process is asked to end.
    pub(super) fn wait(&self, most: Option<Duration>) -> anyhow::Result<bool> {
        let timeout = most.map_or(Ok(PollTimeout::NONE), PollTimeout::try_from);
        let mut events = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut events, timeout.context("waiting for signals")?) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for signals"),
        }
        let mut is_asked = false;
        while let Some(signal) = self.fd.read_signal().context("reading a signal")? {
            let signal = i32::try_from(signal.ssi_signo).map(Signal::try_from);
            is_asked |= !matches!(signal, Ok(Ok(Signal::SIGCHLD)));
        }
        Ok(is_asked)
    }
}

fn signals() -> SigSet {
    let signals = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGCHLD,
    ];
    signals.into_iter().collect()
}
