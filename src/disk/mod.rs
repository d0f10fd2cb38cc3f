//! Runs the engine's commands on files and block devices.
//!
//! What needs only RAM is done at once, in the thread that asks. What may wait for a medium goes to
//! workers, which report back through a channel and wake the thread through an eventfd: a slow read
//! never holds up a request that needs only RAM.

pub mod base;
mod cache;
pub mod cowfile;
pub mod drive;
pub mod filesystem;
mod folder;
pub mod growth;
pub mod image;
pub mod lock;
pub mod lost;
mod medium;
pub mod over;
mod ram;
mod sibling;
pub mod spots;
pub mod stamp;
pub mod target;
pub mod watch;
mod workers;

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::eventfd::EventFd;

use crate::engine::command::{Action, Buffers, Command, CommandId, Failure, Outcome, Span};
use base::{AtOnce, Base};
use lost::{Loss, Lost};
use workers::{Finished, Lane, Workers};

pub use folder::allow_many_files;
pub use medium::Medium;
pub use ram::Ram;

/// Reads that may wait for a medium at the same time.
const READERS: usize = 4;

/// What takes the writes.
#[derive(Debug)]
pub enum Cow {
    /// A file in a tmpfs.
    Ram(Ram),
    /// A persistent cowfile.
    Medium(Box<Medium>),
}

/// A base and a cowfile.
#[derive(Debug)]
pub struct Disk {
    base: Arc<Base>,
    cow: Cow,
    workers: Workers,
    /// Where the data of reads that workers do belongs.
    reading: HashMap<CommandId, Span>,
    /// What workers have to do, or did and nobody has heard of.
    under_way: usize,
    trouble: Trouble,
    loss: Arc<Loss>,
}

impl Disk {
    /// Start the workers.
    ///
    /// # Errors
    /// If the kernel gives no eventfd or threads.
    pub fn new(base: Arc<Base>, cow: Cow) -> io::Result<Self> {
        let lanes = match cow {
            Cow::Ram(_) => [(Lane::Base, READERS), (Lane::Punch, 1)].as_slice(),
            Cow::Medium(_) => &medium::LANES,
        };
        let loss = Arc::new(Loss::default());
        Ok(Self {
            base,
            cow,
            workers: Workers::start(lanes, &loss)?,
            loss,
            reading: HashMap::new(),
            under_way: 0,
            trouble: Trouble::default(),
        })
    }

    /// What fails is a reason to look whether one of these devices is gone, or has a medium of another version than the
    /// one here, which counts from `swapped_from` on: then `lost` says so, before anybody hears of what failed.
    pub fn mind_loss(&self, devices: Vec<(u64, u64)>, swapped_from: Instant) {
        self.loss.mind(devices, swapped_from);
    }

    /// Devices that are gone: nothing that has failed since counts.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        self.loss.gone()
    }

    /// Readable as soon as `finished` has something to say.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.workers.wake()
    }

    /// What makes that readable, for whoever else has something to say to who waits for it.
    #[must_use]
    pub fn waker(&self) -> Arc<EventFd> {
        self.workers.waker()
    }

    /// Whether workers have something to do.
    pub fn is_waiting(&self) -> bool {
        self.under_way > 0
    }

    /// Run a command: its outcome, or `None` if `finished` will tell it, after `go`.
    pub fn run(&mut self, command: Command, buffers: &mut impl Buffers) -> Option<Outcome> {
        let id = command.id;
        let outcome = match (command.action, &mut self.cow) {
            (Action::ReadBase { offset, into }, _) => {
                match self.base.read_at_once(buffers.bytes_mut(into), offset) {
                    // Whether its medium is gone, a worker finds out.
                    AtOnce::Done(Err(_)) if self.loss.is_minded() => {
                        self.read_base(id, offset, into);
                        None
                    }
                    AtOnce::Done(result) => Some(self.outcome("reading the base", offset, result)),
                    AtOnce::WouldWait => {
                        self.read_base(id, offset, into);
                        None
                    }
                }
            }
            (Action::PunchCow { offset, len }, Cow::Ram(ram)) => {
                // Cheap for a few pages, but many take long enough for others to notice.
                self.workers.send(Lane::Punch, ram.punch(id, offset, len));
                None
            }
            (action, Cow::Ram(ram)) => {
                let (doing, offset, result) = ram.run(action, buffers);
                Some(self.outcome(doing, offset, result))
            }
            (Action::ReadCow { offset, into }, Cow::Medium(medium)) => {
                self.reading.insert(id, into);
                let buffer = self.workers.buffer(into.len);
                self.workers
                    .send(Lane::Read, medium.read(id, offset, buffer));
                None
            }
            (Action::WriteCow { offset, from }, Cow::Medium(medium)) => {
                medium.collect(id, offset, from);
                None
            }
            (Action::SyncCow, Cow::Medium(medium)) => {
                self.workers.send(Lane::Sync, medium.sync(id));
                None
            }
            (Action::GrowCow { offset, len }, Cow::Medium(medium)) => {
                self.workers.send(Lane::Grow, medium.grow(id, offset, len));
                None
            }
            // The persistent store never asks for it: it writes over what nobody needs.
            (Action::PunchCow { .. }, Cow::Medium(_)) => Some(Ok(0)),
        };
        self.under_way += usize::from(outcome.is_none());
        outcome
    }

    /// Begin what `run` has collected: writes next to each other go as one.
    pub fn go(&mut self) {
        if let Cow::Medium(medium) = &mut self.cow {
            for job in medium.take_writes() {
                self.workers.send(Lane::Write, job);
            }
        }
    }

    fn read_base(&mut self, id: CommandId, offset: u64, into: Span) {
        self.reading.insert(id, into);
        let (base, mut buffer) = (Arc::clone(&self.base), self.workers.buffer(into.len));
        let job = move |tell: &dyn Fn(Finished)| {
            let result = base.read_at(buffer.bytes_mut(), offset);
            tell(Finished {
                id,
                doing: "reading the base",
                offset,
                bytes: Some(buffer),
                result,
            });
        };
        self.workers.send(Lane::Base, Box::new(job));
    }

    /// What the workers have finished since the last call.
    pub fn finished(&mut self, buffers: &mut impl Buffers) -> Vec<(CommandId, Outcome)> {
        let mut outcomes = Vec::new();
        while let Some(finished) = self.workers.receive() {
            let Finished {
                id,
                doing,
                offset,
                bytes,
                result,
            } = finished;
            self.under_way = self.under_way.saturating_sub(1);
            if let Cow::Medium(medium) = &mut self.cow {
                medium.heard(doing, offset, &result);
            }
            if let Some(bytes) = bytes {
                let into = self.reading.remove(&id);
                if let (Ok(done), Some(into)) = (&result, into) {
                    let got = bytes.bytes().get(..*done).unwrap_or_default();
                    if let Some(place) = buffers.bytes_mut(into).get_mut(..got.len()) {
                        place.copy_from_slice(got);
                    }
                }
                self.workers.give_back(bytes);
            }
            outcomes.push((id, self.outcome(doing, offset, result)));
        }
        outcomes
    }

    fn outcome(&mut self, doing: &str, offset: u64, result: io::Result<usize>) -> Outcome {
        result.map_err(|error| {
            if !self.loss.is_known() {
                self.trouble.report(doing, offset, &error);
            }
            failure(&error)
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What takes long ends at its next step, and the workers are waited for.
        if let Cow::Medium(medium) = &self.cow {
            medium.stop();
        }
    }
}

/// What the block layer is told of an error.
fn failure(error: &io::Error) -> Failure {
    match is_full(error) {
        true => Failure::NoSpace,
        false => Failure::Io,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSPC | libc::EDQUOT | libc::ENOMEM)
    )
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Tells of errors without drowning the log when a medium is gone: the 1st, 2nd, 4th, 8th, …
#[derive(Debug, Default)]
struct Trouble {
    count: u64,
}

impl Trouble {
    fn report(&mut self, doing: &str, offset: u64, error: &io::Error) {
        self.count += 1;
        if self.count.is_power_of_two() {
            log::error!(
                "{doing} at byte {offset}: {error} (error number {} on this device)",
                self.count
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::{Buffer, RequestId};
    use nix::poll::{PollFd, PollFlags};
    use std::io::Write;
    use std::os::fd::AsFd;

    struct Memory(Vec<u8>);

    impl Buffers for Memory {
        fn bytes(&self, span: Span) -> &[u8] {
            &self.0[span.start..span.start + span.len]
        }
        fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
            &mut self.0[span.start..span.start + span.len]
        }
    }

    /// Run a command to its end, whoever does it: its outcome.
    fn run(disk: &mut Disk, memory: &mut Memory, action: Action) -> Outcome {
        let id = CommandId(7);
        if let Some(outcome) = disk.run(Command { id, action }, memory) {
            return outcome;
        }
        disk.go();
        let wake = disk.wake();
        let mut poll = [PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        assert_eq!(
            nix::poll::poll(&mut poll, 5000u16),
            Ok(1),
            "nobody says that it is done"
        );
        let finished = disk.finished(memory);
        assert_eq!(finished.len(), 1);
        assert_eq!(finished[0].0, id);
        finished[0].1
    }

    #[test]
    fn commands_do_what_they_say_now_or_later() {
        let mut base = tempfile::NamedTempFile::new().unwrap();
        base.write_all(&[7; 10_000]).unwrap();
        let base = Arc::new(Base::open(base.path()).unwrap());
        let cow = Cow::Ram(Ram::new(tempfile::tempfile().unwrap()));
        let mut disk = Disk::new(base, cow).unwrap();
        let mut memory = Memory(vec![1; 8192]);
        let span = |start| Span {
            buffer: Buffer::Request(RequestId(0)),
            start,
            len: 4096,
        };

        let outcome = run(
            &mut disk,
            &mut memory,
            Action::ReadBase {
                offset: 9000,
                into: span(0),
            },
        );
        assert_eq!(outcome, Ok(1000), "the base ends there");
        assert_eq!((memory.0[999], memory.0[1000]), (7, 1));
        let outcome = run(
            &mut disk,
            &mut memory,
            Action::WriteCow {
                offset: 4096,
                from: span(0),
            },
        );
        assert_eq!(outcome, Ok(4096));
        let read = Action::ReadCow {
            offset: 4096,
            into: span(4096),
        };
        assert_eq!(run(&mut disk, &mut memory, read), Ok(4096));
        assert_eq!(memory.0[4096], 7);
        let outcome = run(
            &mut disk,
            &mut memory,
            Action::PunchCow {
                offset: 4096,
                len: 4096,
            },
        );
        assert_eq!(outcome, Ok(0));
        assert_eq!(run(&mut disk, &mut memory, read), Ok(4096));
        assert_eq!(memory.0[4096], 0);
    }
}
