//! A daemon's life: open base and cowfile, leave everything else, serve, answer, stop.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};

use super::protocol::{Answer, CowReport, Question, Report};
use super::store::Store;
use super::{FAILED, Options, READY, START, persistent, protect, protocol, volatile};
use crate::disk::base::{self, Base};
use crate::engine::units::CHUNK_BYTES;
use crate::media::mount;
use crate::media::namespace::{self, Left};
use crate::media::open::CowStore;
use crate::ublk::counters::Counters;
use crate::ublk::{self, Device, Spec};

/// What a report says of a device's health.
const HEALTHY: &str = "ok";
const NEEDS_ATTENTION: &str = "attention";
/// From here on a report warns, as the kernel's log does.
const NEARLY_FULL_PERCENT: u64 = 80;

/// Whom to tell that the device is there, or why not.
#[derive(Debug)]
pub enum Starter {
    /// The process that started this one, over a pipe.
    Pipe(File),
    /// A person at a terminal: the device is printed, a failure returned.
    Terminal,
}

/// A starter that has not been told yet.
type Untold = Mutex<Option<Starter>>;

/// How often a daemon that is asked to end looks whether its device is free, once a second.
const WAITS_FOR_USERS: u32 = 60;

/// Serve a device until it is detached. Does not return before.
///
/// Returns whether all went well; if not, the starter at the other end of a pipe knows why.
///
/// # Errors
/// Why it could not start or what ended it, where no starter was told.
pub fn serve(options: &Options, starter: Starter) -> anyhow::Result<bool> {
    block_signals()?;
    let in_foreground = matches!(starter, Starter::Terminal);
    let starter = Arc::new(Mutex::new(Some(starter)));
    let result = start(options, &starter).and_then(|daemon| {
        let id = daemon.device.id();
        tell(&starter, Ok(id));
        std::thread::spawn(move || mind_signals(id, in_foreground));
        daemon.live()
    });
    match result {
        Ok(()) => Ok(true),
        Err(error) if tell(&starter, Err(&error)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A root disk's server does not end because somebody sends it a signal. All are blocked but those
/// that say that this process itself has gone wrong; `mind_signals` takes those that ask it to end.
fn block_signals() -> anyhow::Result<()> {
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

/// When somebody asks this process to end: detach if nobody uses the device.
///
/// In the foreground that is a person at a terminal, who is told if it is in use. Elsewhere it is
/// systemd that stops a session or service: it waits, and so the device may become free meanwhile. A
/// root disk never does, and stays.
fn mind_signals(id: u32, in_foreground: bool) {
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

/// libublk can wait for ever for a queue that failed. If the start takes too long, say so and end;
/// the starter deletes what is left.
fn watch_start(starter: &Arc<Untold>) -> Sender<()> {
    let (started, watch) = channel();
    let starter = Arc::clone(starter);
    std::thread::spawn(move || {
        if watch.recv_timeout(START) == Err(RecvTimeoutError::Timeout) {
            let error = anyhow::anyhow!(
                "starting the device: the kernel did not finish within {} s; its log may say why",
                START.as_secs()
            );
            if !tell(&starter, Err(&error)) {
                log::error!("{error:#}");
            }
            std::process::exit(1);
        }
    });
    started
}

/// Tell the starter, once. Whether somebody knows now.
fn tell(starter: &Untold, result: Result<u32, &anyhow::Error>) -> bool {
    let starter = starter
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match (starter, result) {
        (Some(Starter::Pipe(mut pipe)), Ok(id)) => writeln!(pipe, "{READY}{id}").is_ok(),
        (Some(Starter::Pipe(mut pipe)), Err(error)) => {
            let reason = format!("{error:#}").replace('\n', " ");
            writeln!(pipe, "{FAILED}{reason}").is_ok()
        }
        (Some(Starter::Terminal), Ok(id)) => {
            println!("/dev/ublkb{id}");
            true
        }
        _ => false,
    }
}

/// A device and what is known about it.
struct Daemon {
    device: Device,
    listener: UnixListener,
    counters: Arc<Counters>,
    /// Slots that only metadata may take.
    reserve_slots: u32,
    /// Written when the queue's thread ends.
    over: Arc<EventFd>,
    /// What keeps a machine from hibernating whose root this is.
    _no_hibernation: Option<OwnedFd>,
    /// What does not change while it lives; the rest is filled in for each answer.
    report: Report,
}

fn start(options: &Options, starter: &Arc<Untold>) -> anyhow::Result<Daemon> {
    ublk::check_kernel()?;
    let (base, store, left) = open_all(options)?;
    let no_hibernation = match left {
        Left::Initramfs => protect::refuse_hibernation(),
        Left::TheMachine => None,
    };
    let counters = Arc::new(Counters::default());
    counters.start(store.limits);
    let over = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).context("making an eventfd")?);
    let spec = Spec {
        id: options.id,
        size_bytes: store.device_bytes,
        read_only: options.read_only,
    };
    let Store {
        serving,
        limits,
        cow,
        warnings,
        ..
    } = store;
    let in_ram = serving.is_in_ram();
    let (queue_counters, queue_over, untold) = (
        Arc::clone(&counters),
        Arc::clone(&over),
        Arc::clone(starter),
    );
    let started = watch_start(starter);
    let device = ublk::start(&spec, move |queue| {
        let result = serving.serve(queue, &queue_counters);
        if let Err(error) = &result
            && tell(&untold, Err(error))
        {
            // The kernel goes on waiting for a queue that will never be there.
            std::process::exit(1);
        }
        let _ = queue_over.write(1);
        result
    })?;
    let _ = started.send(());
    if let Err(error) = device.tune(in_ram) {
        log::warn!("{error:#}; the device works, but slower");
    }
    let listener = protocol::listen(device.id())?;
    let report = first_report(&device, &spec, &base, (cow, warnings));
    Ok(Daemon {
        device,
        listener,
        counters,
        reserve_slots: limits.reserve,
        over,
        _no_hibernation: no_hibernation,
        report,
    })
}

/// Open base and cowfile, make this process hard to kill, and leave the machine's mounts.
fn open_all(options: &Options) -> anyhow::Result<(Arc<Base>, Store, Left)> {
    match &options.cow {
        CowStore::Tmpfs(size) => {
            let (base, left) = leave_with_base(Base::open(&options.base)?)?;
            let base = Arc::new(base);
            let device_bytes = base::device_size_bytes(base.size_bytes(), options.size_bytes)?;
            protect::protect(c"cowroot");
            let store = volatile::store(*size, &base, device_bytes)?;
            Ok((base, store, left))
        }
        CowStore::File(path) => {
            let base = Base::open(&options.base)?;
            let opened = persistent::open(path, &base, options.read_only, options.size_bytes)?;
            let (base, left) = leave_with_base(base)?;
            let base = Arc::new(base);
            protect::protect(c"cowroot");
            let store = persistent::store(path, opened, &base, options.durability)?;
            Ok((base, store, left))
        }
    }
}

/// Leave the machine's mounts, so that nothing but what is open is held in use.
fn leave_with_base(everybodys: Base) -> anyhow::Result<(Base, Left)> {
    mount::private_namespace()?;
    // Before anything is mounted over its path: a boot's medium is below /run.
    let own = everybodys.opened_again()?;
    let left = namespace::leave()?;
    let base = match (left, own) {
        // Through our own copy of its mount, so that a shutdown can unmount the one everybody sees.
        (Left::Initramfs, Some(own)) => own,
        // Elsewhere the one everybody sees is held: unmounting a base in use says that it is busy.
        _ => everybodys,
    };
    Ok((base, left))
}

/// What is known from the start; the rest is filled in when somebody asks.
fn first_report(
    device: &Device,
    spec: &Spec,
    base: &Base,
    (cow, warnings): (CowReport, Vec<String>),
) -> Report {
    Report {
        id: device.id(),
        device: device.node().display().to_string(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
        base: base.path().display().to_string(),
        base_bytes: base.size_bytes(),
        size_bytes: spec.size_bytes,
        read_only: spec.read_only,
        cow,
        requests: 0,
        failed_requests: 0,
        health: HEALTHY.into(),
        warnings,
    }
}

impl Daemon {
    /// Answer questions until the device is detached, or its queue ends by itself.
    fn live(self) -> anyhow::Result<()> {
        loop {
            let mut events = [
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.over.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut events, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).context("waiting for commands"),
            }
            let [asked, over] = events.map(|event| event.any() == Some(true));
            if over {
                log::error!(
                    "the queue of '{}' ended by itself; the device is gone",
                    self.report.device
                );
                return self.device.stop();
            }
            if !asked {
                continue;
            }
            let Ok((mut stream, _)) = self.listener.accept() else {
                continue;
            };
            match self.answer(&mut stream) {
                Ok(Some(claimed)) => return self.detach(&claimed, &mut stream),
                Ok(None) => {}
                // A customer that went away or speaks nonsense is no reason to stop serving.
                Err(error) => log::debug!("{error:#}"),
            }
        }
    }

    /// Answer one question. A device that is to be detached comes back claimed.
    fn answer(&self, stream: &mut UnixStream) -> anyhow::Result<Option<File>> {
        let refusal = match protocol::hear(stream)? {
            Question::Status => {
                protocol::reply(stream, &Answer::Status(Box::new(self.report())))?;
                return Ok(None);
            }
            Question::Detach => match self.device.claim() {
                Ok(claimed) => return Ok(Some(claimed)),
                Err(error) => format!("{error:#}"),
            },
        };
        protocol::reply(stream, &Answer::Refused(refusal)).map(|()| None)
    }

    fn detach(self, _claimed: &File, stream: &mut UnixStream) -> anyhow::Result<()> {
        let result = self.device.stop();
        let answer = match &result {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed(format!("{error:#}")),
        };
        let _ = protocol::reply(stream, &answer);
        result
    }

    fn report(&self) -> Report {
        let mut report = self.report.clone();
        let counters = &self.counters;
        let bytes = |slots: &AtomicU32| u64::from(slots.load(Ordering::Relaxed)) * CHUNK_BYTES;
        let used_percent = counters.used_percent(self.reserve_slots);
        let committed_s = counters.committed_s.load(Ordering::Relaxed);
        report.cow = CowReport {
            capacity_bytes: bytes(&counters.capacity_slots),
            used_bytes: bytes(&counters.used_slots),
            map_bytes: counters.map_bytes.load(Ordering::Relaxed),
            uncommitted_bytes: bytes(&counters.staged_chunks),
            epoch: counters.epoch.load(Ordering::Relaxed),
            last_commit_s: Some(committed_s).filter(|&committed_s| committed_s > 0),
            broken: counters.broken.load(Ordering::Relaxed),
            ..report.cow
        };
        report.requests = counters.requests.load(Ordering::Relaxed);
        report.failed_requests = counters.failed.load(Ordering::Relaxed);
        let warnings = self.warnings(&report, used_percent);
        report.warnings.extend(warnings);
        if !report.warnings.is_empty() {
            report.health = NEEDS_ATTENTION.into();
        }
        report
    }

    /// What has come up since the start.
    fn warnings(&self, report: &Report, used_percent: u64) -> Vec<String> {
        let swap = self.counters.swap_requests.load(Ordering::Relaxed) > 0;
        let swap = swap.then(|| {
            "swap was used on this device: the machine can dead-lock; use swapoff".to_owned()
        });
        let broken = report.cow.broken.then(|| {
            "the cowfile's medium fails: reads go on, writes do not; save what you need elsewhere"
                .to_owned()
        });
        let failed = (report.failed_requests > 0).then(|| {
            format!(
                "{} requests failed; the kernel's log says more",
                report.failed_requests
            )
        });
        let full = (used_percent >= NEARLY_FULL_PERCENT).then(|| {
            format!(
                "the cowfile is {used_percent} % full: delete files (and run fstrim where the file system does not discard)"
            )
        });
        [swap, broken, failed, full].into_iter().flatten().collect()
    }
}
