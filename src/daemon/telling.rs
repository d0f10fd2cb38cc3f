//! What a worker tells its supervisor, and how it ends where it cannot go on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::handover::{self, Word};
use super::kept::Kept;
use super::report::Shared;
use super::worker::End;
use crate::disk::lost::{is_gone, is_out, is_swapped};

/// How often one looks whether a medium is gone, and for how long.
const GONE_LOOK: Duration = Duration::from_millis(50);
const GONE_LOOKS: u32 = 40;
/// One look of so many opens the drive for it.
const GONE_OPENS: u32 = 10;

/// The way to the supervisor. It is told one thing: what became of the start.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) socket: OwnedFd,
    is_told: AtomicBool,
}

impl Supervisor {
    /// At the other end of this socket.
    pub(super) fn at(socket: OwnedFd) -> Self {
        Self {
            socket,
            is_told: AtomicBool::new(false),
        }
    }

    /// Whether it knows what became of the start.
    pub(super) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }

    /// Whether that was the first word, and it was heard.
    pub(super) fn tell(&self, word: &Word, fds: &[BorrowedFd<'_>]) -> bool {
        !self.is_told.swap(true, Ordering::Relaxed)
            && handover::tell(self.socket.as_fd(), word, fds).is_ok()
    }

    /// End if a medium is gone again, for which this could not go on.
    pub(super) fn end_if_lost(&self, kept: &Kept, shared: &Shared) {
        let media = shared.noted(kept.handover.media.devices());
        // Its first error comes a moment before that.
        for look in 0..GONE_LOOKS {
            let is_lost = |&&(device, version): &&(u64, u64)| match look % GONE_OPENS {
                0 => is_out(device) || is_swapped(device, version),
                _ => is_gone(device),
            };
            let gone: Vec<u64> = media.iter().filter(is_lost).map(|it| it.0).collect();
            if !gone.is_empty() {
                self.end_lost(gone);
            }
            if media.is_empty() {
                break;
            }
            std::thread::sleep(GONE_LOOK);
        }
    }

    /// End as if killed, for these devices are gone: who is given the device next is given its requests, too.
    pub(super) fn end_lost(&self, gone: Vec<u64>) -> ! {
        if let Err(error) = handover::tell(self.socket.as_fd(), &Word::Lost(gone), &[]) {
            log::error!("{error:#}");
        }
        std::process::exit(End::Lost as i32)
    }

    /// End, for this cannot go on; the reason goes to the log if the supervisor has had its word.
    pub(super) fn fail(&self, error: &anyhow::Error) -> ! {
        if !self.tell(&Word::Failed(format!("{error:#}")), &[]) {
            log::error!("{error:#}");
        }
        std::process::exit(End::Failed as i32)
    }
}

/// libublk can wait for ever for a queue that failed. If it takes too long, say so and end; the supervisor sees to
/// what is left.
pub(super) fn watch_start(supervisor: &Arc<Supervisor>, most: Duration) -> Sender<()> {
    let (started, watch) = channel();
    let supervisor = Arc::clone(supervisor);
    std::thread::spawn(move || {
        if watch.recv_timeout(most) == Err(RecvTimeoutError::Timeout) {
            supervisor.fail(&anyhow::anyhow!(
                "starting the device: the kernel did not finish within {} s; its log may say why",
                most.as_secs()
            ));
        }
    });
    started
}
