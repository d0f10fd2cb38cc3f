//! The supervisor: a small process that makes the one which serves, and another when that one dies.
//!
//! It has one thread and does no I/O for the device. From its first worker it gets the descriptors of all that the
//! device consists of, and each further worker is a fork of it, so nothing has to be found, opened or loaded again:
//! the paths are gone by then, and the root disk is the one that waits.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::apart::apart;
use super::away;
use super::handover::{self, Handover, Word};
use super::kept::Kept;
use super::patience::{Next, Patience};
use super::protocol::Answer;
use super::report::Shared;
use super::starter::Starter;
use super::upgrade::{TakeOver, Upgrade};
use super::worker::{self, End, Task};
use super::{Options, given_up, login, protect, protocol, signals};
use crate::media::namespace;
use crate::sys::{self, Forked};
use crate::ublk::{self, devices};

/// Serve a device until it is detached. Does not return before.
///
/// Returns whether all went well; if not, whoever started it knows why, or the log does.
///
/// # Errors
/// Why it could not start, where a person started it.
pub fn serve(options: &Options, starter: Starter) -> anyhow::Result<bool> {
    let mut supervisor = Supervisor::new(matches!(starter, Starter::Terminal))?;
    let (mut kept, worker) = match supervisor.first_worker(options) {
        Ok(begun) => begun,
        Err(error) => return starter.failed(error).map(|()| false),
    };
    starter.ready(kept.handover.report.id);
    Ok(supervisor.watch(&mut kept, worker))
}

/// Go on with a device that another binary served, as the same process. Does not return before it is detached.
///
/// # Errors
/// It cannot be gone on with.
pub fn take_over(from: &TakeOver) -> anyhow::Result<bool> {
    let mut supervisor = Supervisor::new(false)?;
    let (mut kept, answer) = from.accept()?;
    supervisor.upgrading = answer;
    let change = &supervisor.shared.base_change;
    change.store(kept.handover.base_change(), Ordering::Relaxed);
    let died = Instant::now();
    loop {
        match supervisor.fork(Task::GoOn(&kept), died) {
            Ok(worker) => return Ok(supervisor.watch(&mut kept, worker)),
            // Nobody else could.
            Err(error) => log::error!("{error:#}"),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Whether this binary would go on with what another one hands over.
///
/// # Errors
/// It is not understood, or this kernel does not let anybody go on.
pub fn try_to_take_over(from: &TakeOver) -> anyhow::Result<()> {
    from.accept()?;
    // In this process, which ends: it makes a ring, whose threads a fork would not have.
    ublk::check_kernel()
}

/// Keep what the device consists of, and leave the machine's mounts for the worker's.
fn keep(handover: Handover, fds: Vec<OwnedFd>) -> anyhow::Result<Kept> {
    let kept = Kept::of(handover, fds)?;
    setns(kept.namespace.as_fd(), CloneFlags::CLONE_NEWNS)
        .context("leaving the machine's mounts")?;
    // In an initramfs the first folder there is another one, which loses its mounts when the root becomes '/'.
    namespace::enter(kept.root.as_fd()).context("entering the worker's root")?;
    protocol::answer_for(&kept.listener)?;
    Ok(kept)
}

struct Supervisor {
    in_foreground: bool,
    shared: &'static Shared,
    signals: SignalFd,
    patience: Patience,
    /// Who waits for a worker of this binary to take over.
    upgrading: Option<UnixStream>,
}

/// The process that serves.
struct Worker {
    pid: Pid,
    channel: OwnedFd,
    /// Since when the device has not been served; `None` while it is.
    away: Option<Instant>,
    /// How it ended, if it was killed for an upgrade that came to nothing.
    ended: Option<WaitStatus>,
    /// It ended for these devices are gone.
    gone: Vec<u64>,
}

impl Supervisor {
    fn new(in_foreground: bool) -> anyhow::Result<Self> {
        signals::block()?;
        protect::protect(c"cowroot-super");
        let shared = sys::shared(Shared::default()).context("making memory for all processes")?;
        shared
            .supervisor
            .store(std::process::id(), Ordering::Relaxed);
        Ok(Self {
            in_foreground,
            shared,
            signals: signals::read()?,
            patience: Patience::default(),
            upgrading: None,
        })
    }

    /// Have a worker make the device, and take over what it has opened.
    fn first_worker(&mut self, options: &Options) -> anyhow::Result<(Kept, Worker)> {
        let mut worker = self.fork(Task::Start(options), Instant::now())?;
        let reason = match handover::heard(&worker.channel) {
            Ok(Some((Word::Ready(handover), fds))) => match keep(*handover, fds) {
                Ok(kept) => {
                    worker.away = None;
                    return Ok((kept, worker));
                }
                Err(error) => error,
            },
            Ok(Some((Word::Failed(reason), _))) => anyhow::anyhow!("{reason}"),
            Ok(_) => anyhow::anyhow!(
                "starting the daemon: it ended without a word; the kernel's log may say why"
            ),
            Err(error) => error,
        };
        let _ = kill(worker.pid, Signal::SIGKILL);
        let _ = waitpid(worker.pid, None);
        let pid = worker.pid.as_raw().unsigned_abs();
        apart(|| devices::delete_leftovers(pid));
        Err(reason)
    }

    /// Make a worker.
    fn fork(&self, task: Task<'_>, away: Instant) -> anyhow::Result<Worker> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .context("making a socket to the worker")?;
        match sys::fork().context("making a worker")? {
            Forked::Child => {
                drop(ours);
                let end = worker::run(task, theirs, self.shared, self.in_foreground);
                std::process::exit(end as i32)
            }
            Forked::Parent(pid) => Ok(Worker {
                pid,
                channel: ours,
                away: Some(away),
                ended: None,
                gone: Vec::new(),
            }),
        }
    }

    /// See to it that the device is served until it is detached. Whether that went well.
    fn watch(&mut self, kept: &mut Kept, first: Worker) -> bool {
        let mut worker = first;
        loop {
            let status = self.await_end(kept, &mut worker);
            match status {
                WaitStatus::Exited(_, code) if code == End::Detached as i32 => return true,
                WaitStatus::Exited(_, code)
                    if code == End::Failed as i32 && worker.away.is_none() =>
                {
                    return false;
                }
                _ => {}
            }
            let died = worker.away.unwrap_or_else(Instant::now);
            let next = match worker.gone.as_slice() {
                [] => self.replace(kept, status, died),
                // That is nobody's fault, however often it happens.
                gone => away::wait(kept, self.shared, gone)
                    .and_then(|()| self.fork(Task::GoOn(kept), died)),
            };
            worker = match next {
                Ok(worker) => worker,
                Err(reason) => return self.given_up(kept, &reason),
            };
        }
    }

    /// Make another worker, at once or after a pause, unless that has no point any more.
    fn replace(
        &mut self,
        kept: &Kept,
        status: WaitStatus,
        died: Instant,
    ) -> Result<Worker, anyhow::Error> {
        let mut how = describe(status);
        loop {
            match self.patience.another(status, Instant::now()) {
                Next::Now => {}
                Next::After(pause) => std::thread::sleep(pause),
                Next::Never(why) => bail!("its daemon {how}; {why}"),
            }
            log::warn!(
                "the daemon of '{}' {how}: another one goes on",
                kept.handover.report.device
            );
            match self.fork(Task::GoOn(kept), died) {
                Ok(worker) => return Ok(worker),
                Err(error) => how = format!("could not be replaced: {error:#}"),
            }
        }
    }

    /// Wait until the worker has ended; hear what it says, and pass on what one is asked.
    fn await_end(&mut self, kept: &Kept, worker: &mut Worker) -> WaitStatus {
        let mut is_talking = true;
        loop {
            if let Some(status) = worker.ended {
                return status;
            }
            match waitpid(worker.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(status) => {
                    // All of it: that a medium is gone may be the second word of one that has just taken over.
                    worker.ended = Some(status);
                    self.hear(kept, worker);
                    return status;
                }
                // Nobody else waits for it, so it cannot be.
                Err(error) => {
                    log::error!("waiting for the daemon: {error}");
                    return WaitStatus::StillAlive;
                }
            }
            let mut events = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(worker.channel.as_fd(), PollFlags::POLLIN),
            ];
            let watched = if is_talking { 2 } else { 1 };
            let polled = poll(
                events.get_mut(..watched).unwrap_or_default(),
                PollTimeout::NONE,
            );
            let heard = events.map(|event| event.any() == Some(true));
            match polled {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    log::error!("watching the daemon: {error}");
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            if heard == [false, true] || heard == [true, true] {
                is_talking = self.hear(kept, worker);
            }
            self.pass_signals_on(worker.pid);
        }
    }

    /// Hear what a worker has to say by now. Whether it may say more.
    fn hear(&mut self, kept: &Kept, worker: &mut Worker) -> bool {
        let (words, more) = handover::all_heard(&worker.channel);
        for (word, fds) in words {
            match word {
                Word::Recovered => {
                    let pause = worker.away.take().map(|away| away.elapsed());
                    self.recovered(kept, pause.unwrap_or_default());
                }
                Word::Failed(reason) => self.patience.note(reason),
                Word::Upgrade => upgrade(kept, self.shared, worker, fds),
                Word::Lost(gone) => worker.gone = gone,
                Word::Ready(_) | Word::Found(_) => {}
            }
        }
        match more {
            Ok(more) => more,
            Err(error) => {
                log::error!("{error:#}");
                false
            }
        }
    }

    fn recovered(&mut self, kept: &Kept, pause: Duration) {
        let relaxed = Ordering::Relaxed;
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.shared.recoveries.fetch_add(1, relaxed);
        self.shared.pause_ms.store(pause_ms, relaxed);
        self.shared.recovered_s.store(sys::now_s(), relaxed);
        self.patience.recovered(Instant::now());
        log::warn!(
            "'{}' is served again, after {pause_ms} ms; nothing is lost",
            kept.handover.report.device
        );
        if let Some(mut customer) = self.upgrading.take() {
            let _ = protocol::reply(&mut customer, &Answer::Done);
        }
    }

    /// What this process is asked, its worker is asked.
    fn pass_signals_on(&self, worker: Pid) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let signal = i32::try_from(signal.ssi_signo).map(Signal::try_from);
            if let Ok(Ok(signal)) = signal
                && signal != Signal::SIGCHLD
            {
                let _ = kill(worker, signal);
            }
        }
    }

    /// Nobody goes on. Let those who wait have their errors, and say so to whoever asks.
    fn given_up(&self, kept: &Kept, reason: &anyhow::Error) -> bool {
        let report = &kept.handover.report;
        let what = format!(
            "'{}' fails from now on: {reason:#}; {}",
            report.device,
            given_up::safe(kept, self.shared)
        );
        log::error!("{what}");
        login::tell_lost(kept.run.as_ref(), Some(&what));
        let id = report.id;
        apart(|| _ = devices::give_up(id));
        given_up::answer(kept, self.shared, reason);
        // Where it could not be given up before, that may be possible now.
        apart(|| _ = devices::give_up(id) | devices::delete_dead(id));
        false
    }
}

/// Become another binary, if that one says that it can go on. Comes back if it cannot.
fn upgrade(kept: &Kept, shared: &Shared, worker: &mut Worker, fds: Vec<OwnedFd>) {
    let Ok([binary, customer]) = <[OwnedFd; 2]>::try_from(fds) else {
        return;
    };
    let mut customer = UnixStream::from(customer);
    if worker.ended.is_some() {
        // Its process is nobody's by now, or another's.
        let reason = format!(
            "upgrading '{}': its daemon has just ended; try again",
            kept.handover.report.device
        );
        let _ = protocol::reply(&mut customer, &Answer::Refused(reason));
        return;
    }
    let error = match Upgrade::prepare(kept, shared.base_change.load(Ordering::Relaxed), binary) {
        Ok(upgrade) => {
            // What it has acknowledged is in memory that stays, and what it has not the kernel gives to the next.
            let _ = kill(worker.pid, Signal::SIGKILL);
            worker.ended = waitpid(worker.pid, None).ok();
            upgrade.become_it(kept, &customer)
        }
        Err(error) => error,
    };
    let reason = format!("upgrading '{}': {error:#}", kept.handover.report.device);
    let _ = protocol::reply(&mut customer, &Answer::Refused(reason));
}

/// How a process ended.
fn describe(status: WaitStatus) -> String {
    match status {
        WaitStatus::Signaled(_, signal, _) => format!("was ended by {signal}"),
        WaitStatus::Exited(_, code) => format!("ended with code {code}"),
        other => format!("ended ({other:?})"),
    }
}
