//! When to commit what no flush has asked for.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::Context;
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

/// Rings once, some time after the first change: a device that nobody writes to costs nothing.
#[derive(Debug)]
pub(super) struct Clock {
    timer: TimerFd,
    after: Option<Duration>,
    is_set: bool,
}

impl Clock {
    /// A clock that rings so long after a change, or never.
    pub(super) fn new(after: Option<Duration>) -> anyhow::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("making a timer")?;
        Ok(Self {
            timer,
            after,
            is_set: false,
        })
    }

    /// Readable when it rings.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Whether there is something to commit that it does not yet wait for.
    pub(super) fn is_to_be_set(&self, is_dirty: bool) -> bool {
        is_dirty && !self.is_set && self.after.is_some()
    }

    /// Begin to wait.
    pub(super) fn set(&mut self) -> anyhow::Result<()> {
        if let Some(after) = self.after {
            let once = Expiration::OneShot(TimeSpec::from_duration(after));
            self.timer
                .set(once, TimerSetTimeFlags::empty())
                .context("setting a timer")?;
            self.is_set = true;
        }
        Ok(())
    }

    /// It has rung.
    pub(super) fn rang(&mut self) {
        // Quiets the descriptor; it is not read again before it is set again.
        let _ = self.timer.wait();
        self.is_set = false;
    }
}
