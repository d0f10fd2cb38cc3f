//! A worker's life: open base and cowfile, or take them over; leave everything else, serve, answer, end.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;

use super::handover::{Handover, Watched, Word};
use super::kept::{Kept, KeptStore};
use super::login::Board;
use super::opening::{Opening, base_again, become_server, open_all, store_again};
use super::protocol::{Answer, Question, Report};
use super::report::{Shared, first_report, report};
use super::store::Serving;
use super::telling::{Supervisor, watch_start};
use super::{Options, START, confine, handover, protect, protocol, sessions, signals};
use crate::disk::lost::Lost;
use crate::disk::watch::Watch;
use crate::ublk::asks::Asks;
use crate::ublk::{self, Device, Spec};

/// What a worker is made for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task<'a> {
    /// A new device.
    Start(&'a Options),
    /// One whose worker has ended.
    GoOn(&'a Kept),
}

/// How a worker ends, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The device was detached.
    Detached = 0,
    /// There is no device, or none any more, and something failed; that is told.
    Failed = 1,
    /// The device waits for somebody to go on.
    GoOn = 75,
    /// The same, and a medium is gone.
    Lost = 76,
}

/// A worker that goes on first waits for the kernel to notice that the one before has ended.
const TAKE_OVER: Duration = Duration::from_secs(120);

/// Serve a device until it is detached, or cannot be served by this process any more.
pub(super) fn run(
    task: Task<'_>,
    supervisor: OwnedFd,
    shared: &'static Shared,
    in_foreground: bool,
) -> End {
    let supervisor = Arc::new(Supervisor::at(supervisor));
    // Until it knows what this process opens, nobody could do anything with what it leaves. Who goes on needs nobody.
    if matches!(task, Task::Start(_))
        && let Err(error) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
    {
        log::debug!("tying this process to its supervisor: {error}");
    }
    let begun = match task {
        Task::Start(options) => start(options, &supervisor, shared),
        Task::GoOn(kept) => go_on(kept, &supervisor, shared),
    };
    let mut daemon = match begun {
        Ok(daemon) => daemon,
        Err(error) => supervisor.fail(&error),
    };
    let _ = nix::sys::prctl::set_pdeathsig(None);
    if let Err(error) = confine::filter_system_calls() {
        log::warn!("giving up system calls: {error:#}; the device works all the same");
    }
    shared.counters.has_heir.store(true, Ordering::Relaxed);
    let id = daemon.device.id();
    std::thread::spawn(move || signals::mind(id, in_foreground));
    if let Some(board) = daemon.board.take() {
        std::thread::spawn(move || board.mind());
    }
    if let Some(watch) = daemon.watch.clone() {
        std::thread::spawn(move || watch.mind());
    }
    daemon.live()
}

/// A device and what is known about it.
struct Daemon {
    device: Device,
    listener: UnixListener,
    shared: &'static Shared,
    supervisor: Arc<Supervisor>,
    /// Written when the queue's thread ends.
    over: Arc<EventFd>,
    /// What keeps a machine from hibernating whose root this is.
    _no_hibernation: Option<OwnedFd>,
    /// What does not change while it lives; the rest is filled in for each answer.
    report: Report,
    /// Where the queue's thread is asked.
    asks: Asks,
    /// A base on a server.
    watch: Option<Arc<Watch>>,
    /// What logins are shown, until a thread has it.
    board: Option<Board>,
}

fn start(
    options: &Options,
    supervisor: &Arc<Supervisor>,
    shared: &'static Shared,
) -> anyhow::Result<Daemon> {
    ublk::check_kernel()?;
    let Opening {
        base,
        store,
        in_initramfs,
        run,
        media,
    } = open_all(options, &shared.base_change)?;
    let no_hibernation = in_initramfs.then(protect::refuse_hibernation).flatten();
    shared.counters.start(store.limits);
    let spec = Spec {
        id: options.id,
        size_bytes: store.device_bytes,
        read_only: options.read_only,
    };
    let in_ram = store.serving.is_in_ram();
    shared.note_media(&media.devices(), &media.devices());
    store.serving.mind_loss(shared.minded(media.devices()));
    let asks = store.serving.asks();
    let started = watch_start(supervisor, START);
    let (fullness, steps) = channel();
    let (device, over) = served((store.serving, fullness), supervisor, shared, |serve| {
        ublk::start(&spec, serve)
    })?;
    let _ = started.send(());
    if let Err(error) = device.tune(in_ram) {
        log::warn!("{error:#}; the device works, but slower");
    }
    let listener = protocol::listen(device.id())?;
    let warnings = options.notice.iter().cloned().chain(store.warnings);
    let report = first_report(&device, &spec, &base, (store.cow, warnings.collect()));
    let KeptStore { state, files } = store.kept;
    let handover = Handover {
        report: report.clone(),
        in_initramfs,
        at_login: run.is_some(),
        store: state,
        watched: base.watch().map(|watch| Watched::of(watch)),
        media,
    };
    let keeping = "keeping this view of the mounts";
    let namespace = File::open("/proc/self/ns/mnt").context(keeping)?;
    let root = File::open("/").context(keeping)?;
    let mut fds = vec![namespace.as_fd(), root.as_fd(), listener.as_fd()];
    fds.push(base.file().as_fd());
    let watched = base.watch().map(|watch| watch.left().1);
    fds.extend(watched.iter().flatten().map(|file| file.as_fd()));
    fds.extend(run.iter().map(AsFd::as_fd));
    fds.extend(files.iter().map(AsFd::as_fd));
    if !supervisor.tell(&Word::Ready(Box::new(handover)), &fds) {
        anyhow::bail!("handing the device to its supervisor: it is gone");
    }
    Ok(Daemon {
        device,
        listener,
        shared,
        supervisor: Arc::clone(supervisor),
        over,
        _no_hibernation: no_hibernation,
        report,
        asks,
        watch: base.watch().cloned(),
        board: run.map(|run| Board { run, steps }),
    })
}

/// Go on with what another worker left.
fn go_on(
    kept: &Kept,
    supervisor: &Arc<Supervisor>,
    shared: &'static Shared,
) -> anyhow::Result<Daemon> {
    become_server();
    let Handover {
        report,
        in_initramfs,
        ..
    } = &kept.handover;
    let no_hibernation = in_initramfs.then(protect::refuse_hibernation).flatten();
    let look = |_: &anyhow::Error| supervisor.end_if_lost(kept, shared);
    let base = Arc::new(base_again(kept, &shared.base_change).inspect_err(look)?);
    let serving = store_again(kept, &base).inspect_err(look)?;
    serving.mind_loss(shared.minded(kept.handover.media.devices()));
    let spec = Spec {
        id: Some(report.id),
        size_bytes: report.size_bytes,
        read_only: report.read_only,
    };
    let listener = kept
        .listener
        .try_clone()
        .context("taking over the socket")?;
    let run = kept.run.as_ref().map(File::try_clone).transpose();
    let run = run.context("taking over where logins look")?;
    let asks = serving.asks();
    let started = watch_start(supervisor, TAKE_OVER);
    let (fullness, steps) = channel();
    let (device, over) = served((serving, fullness), supervisor, shared, |serve| {
        ublk::recover(report.id, &spec, serve)
    })?;
    let _ = started.send(());
    supervisor.tell(&Word::Recovered, &[]);
    Ok(Daemon {
        device,
        listener,
        shared,
        supervisor: Arc::clone(supervisor),
        over,
        _no_hibernation: no_hibernation,
        report: report.clone(),
        asks,
        watch: base.watch().cloned(),
        board: run.map(|run| Board { run, steps }),
    })
}

/// Serve a store with a device that `begin` makes, or recovers, around the serving thread; which tells how full it is.
fn served(
    (serving, fullness): (Serving, Sender<u64>),
    supervisor: &Arc<Supervisor>,
    shared: &'static Shared,
    begin: impl FnOnce(
        Box<dyn FnOnce(&ublk::Queue) -> anyhow::Result<()> + Send>,
    ) -> anyhow::Result<Device>,
) -> anyhow::Result<(Device, Arc<EventFd>)> {
    let over = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).context("making an eventfd")?);
    let (told, untold) = (Arc::clone(&over), Arc::clone(supervisor));
    let device = begin(Box::new(move |queue| {
        let result = serving.serve(queue, &shared.counters, fullness);
        if let Some(Lost(gone)) = result.as_ref().err().and_then(|error| error.downcast_ref()) {
            shared.note_swap(gone);
            untold.end_lost(gone.clone());
        }
        if let Err(error) = &result
            && !untold.is_told()
        {
            // The kernel goes on waiting for a queue that will never be there.
            untold.fail(error);
        }
        let _ = told.write(1);
        result
    }))?;
    Ok((device, over))
}

impl Daemon {
    /// Answer questions until the device is detached, or its queue ends by itself.
    fn live(self) -> End {
        let mut has_supervisor = true;
        loop {
            let mut events = vec![
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.over.as_fd(), PollFlags::POLLIN),
            ];
            if has_supervisor {
                let socket = self.supervisor.socket.as_fd();
                events.push(PollFd::new(socket, PollFlags::POLLIN));
            }
            if let Err(error) = poll(&mut events, PollTimeout::NONE)
                && error != nix::errno::Errno::EINTR
            {
                log::error!(
                    "waiting for commands: {error}; the device goes on, and cannot be asked"
                );
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
            let has = |at: usize| events.get(at).and_then(PollFd::any) == Some(true);
            let (asked, over, gone) = (has(0), has(1), has(2));
            if over {
                return self.queue_ended();
            }
            if gone {
                self.supervisor_died();
                has_supervisor = false;
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

    /// The supervisor has nothing to say; its end does. Nobody else goes on now if this process dies.
    fn supervisor_died(&self) {
        self.shared.supervisor.store(0, Ordering::Relaxed);
        self.shared
            .counters
            .has_heir
            .store(false, Ordering::Relaxed);
        log::error!(
            "the supervisor of '{}' was killed: the device works, but hangs if its daemon (process {}) is killed too",
            self.report.device,
            std::process::id()
        );
        if let Err(error) = protocol::answer_for(&self.listener) {
            log::debug!("{error:#}");
        }
    }

    /// Nobody asked for that: the device was stopped by somebody else, or the queue failed.
    fn queue_ended(self) -> End {
        let name = self.report.device;
        let has_heir = self.shared.counters.has_heir.load(Ordering::Relaxed);
        match self.device.served() {
            Err(error) if has_heir => {
                log::error!("the queue of '{name}' failed: {error:#}");
                End::GoOn
            }
            result => {
                let why = result.err().map(|error| format!(": {error:#}"));
                log::error!(
                    "the queue of '{name}' ended by itself{}; the device is gone",
                    why.unwrap_or_default()
                );
                ublk::devices::delete_own(self.report.id);
                End::Failed
            }
        }
    }

    /// Answer one question. A device that is to be detached comes back claimed.
    fn answer(&self, stream: &mut UnixStream) -> anyhow::Result<Option<File>> {
        let refusal = match protocol::hear(stream)? {
            Question::Status => {
                let mut report = report(&self.report, self.shared);
                report.cow.session = self.asks.session().or(report.cow.session);
                protocol::reply(stream, &Answer::Status(Box::new(report)))?;
                return Ok(None);
            }
            Question::Sessions => {
                sessions::tell(&self.asks, stream)?;
                return Ok(None);
            }
            Question::AskMerge(up_to, frees) => {
                sessions::ask_merge(&self.asks, stream, up_to, frees)?;
                return Ok(None);
            }
            Question::NewSession(name) => {
                sessions::begin(&self.asks, stream, name)?;
                return Ok(None);
            }
            Question::RenameSession(from, to) => {
                sessions::rename(&self.asks, stream, from, to)?;
                return Ok(None);
            }
            Question::Detach => match self.device.claim() {
                Ok(claimed) => return Ok(Some(claimed)),
                Err(error) => format!("{error:#}"),
            },
            Question::Upgrade => {
                let binary = protocol::hear_fd(stream)?;
                let fds = [binary.as_fd(), stream.as_fd()];
                match handover::tell(self.supervisor.socket.as_fd(), &Word::Upgrade, &fds) {
                    Ok(()) => return Ok(None),
                    Err(error) => format!("upgrading '{}': {error:#}", self.report.device),
                }
            }
        };
        protocol::reply(stream, &Answer::Refused(refusal)).map(|()| None)
    }

    fn detach(self, _claimed: &File, stream: &mut UnixStream) -> End {
        let (answer, end) = match self.device.stop() {
            Ok(()) => (Answer::Done, End::Detached),
            Err(error) => {
                log::error!("{error:#}");
                (Answer::Failed(format!("{error:#}")), End::Failed)
            }
        };
        let _ = protocol::reply(stream, &answer);
        end
    }
}
