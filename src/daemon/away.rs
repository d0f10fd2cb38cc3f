//! A device whose medium is gone: another process looks for it, and the supervisor waits for that one, not for ever.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::apart::apart;
use super::handover::{self, Media, Word};
use super::kept::Kept;
use super::report::Shared;
use super::seeking::Seeker;
use super::wait::is_ready_before;
use super::{login, showing};
use crate::sys::{self, Forked};

/// A medium that is found at the last moment has to be mounted and opened.
const OPENING: Duration = Duration::from_secs(30);
/// Between two processes that look, should one die.
const PAUSE: Duration = Duration::from_millis(200);

/// Wait until what is on these devices is back, which `kept` then has.
///
/// # Errors
/// It did not come back in time.
pub(super) fn wait(kept: &mut Kept, shared: &'static Shared, gone: &[u64]) -> anyhow::Result<()> {
    let wait_s = kept.handover.media.wait_s;
    let deadline = Instant::now() + Duration::from_secs(wait_s.into());
    let what = format!(
        "'{}' waits: {} was pulled out; put it back within {wait_s} s",
        kept.handover.report.device,
        kept.handover.media.named(gone)
    );
    log::warn!("{what}");
    login::tell_lost(
        kept.run.as_ref(),
        Some(&format!("{what}, or reads and writes fail")),
    );
    let before = kept.handover.media.clone();
    if kept.handover.in_initramfs {
        // Waited for, or it could meet what is mounted next.
        apart(|| showing::hide(gone));
    }
    loop {
        let (seeker, channel) = fork(kept, shared, gone, deadline)?;
        kept.let_go(gone);
        let heard = hear(&channel, deadline + OPENING);
        let _ = kill(seeker, Signal::SIGKILL);
        let _ = waitpid(seeker, None);
        match heard {
            Ok(Some((Word::Found(found), fds))) => {
                log::info!("{} is back", found.named());
                let opened = found.devices();
                kept.take(*found, fds)?;
                shared.note_media(&kept.handover.media.devices(), &opened);
                login::tell_lost(kept.run.as_ref(), None);
                show(kept, &before, gone);
                return Ok(());
            }
            Ok(Some((Word::Failed(reason), _))) => bail!("{reason}"),
            Ok(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(error) if Instant::now() < deadline => {
                log::error!("{error:#}");
                std::thread::sleep(PAUSE);
            }
            _ => bail!("looking for its medium took too long; the kernel's log may say why"),
        }
    }
}

/// Make a process that looks for them. It has its own copies of what is let go of here.
fn fork(
    kept: &mut Kept,
    shared: &'static Shared,
    gone: &[u64],
    deadline: Instant,
) -> anyhow::Result<(Pid, OwnedFd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .context("making a socket to who looks for its medium")?;
    match sys::fork().context("making a process that looks for its medium")? {
        Forked::Child => {
            drop(ours);
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            // The last who has them: what the kernel keeps of them goes now.
            std::thread::sleep(PAUSE / 4);
            kept.let_go(gone);
            Seeker::new(kept, shared, gone, deadline).run(&theirs)
        }
        Forked::Parent(pid) => Ok((pid, ours)),
    }
}

/// Have the machine see what is back where it saw what is gone; that may take its time, so nobody waits for it.
fn show(kept: &mut Kept, before: &Media, gone: &[u64]) {
    if !kept.handover.in_initramfs {
        // What a person has mounted is that person's.
        return;
    }
    match sys::fork() {
        Ok(Forked::Child) => {
            // Whoever made a process that does not wait for it leaves it to init.
            if let Ok(Forked::Child) = sys::fork() {
                kept.base = None;
                kept.store.clear();
                showing::show(&kept.handover, before, gone);
            }
            std::process::exit(0)
        }
        Ok(Forked::Parent(pid)) => _ = waitpid(pid, None),
        Err(error) => log::warn!("making a process that shows what is back: {error}"),
    }
}

fn hear(channel: &OwnedFd, deadline: Instant) -> anyhow::Result<Option<(Word, Vec<OwnedFd>)>> {
    let has_said = is_ready_before(channel.as_fd(), deadline);
    match has_said.context("waiting for who looks for its medium")? {
        true => handover::heard(channel),
        false => Ok(None),
    }
}
