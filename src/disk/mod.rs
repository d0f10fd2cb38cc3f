//! Runs the engine's commands on files and block devices.
//!
//! What needs only RAM is done at once, in the thread that asks. What may wait for a medium goes to
//! workers, which report back through a channel and wake the thread through an eventfd: a slow read
//! never holds up a request that needs only RAM.

pub mod base;
pub mod cowfile;
mod workers;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::engine::command::{Action, Buffers, Command, CommandId, Failure, Outcome, Span};
use base::{AtOnce, Base};
use workers::{Finished, Job, Workers};

/// Reads that may wait for a medium at the same time.
const READERS: usize = 4;

/// A base and a tmpfs cowfile.
#[derive(Debug)]
pub struct Disk {
    base: Arc<Base>,
    cowfile: Arc<File>,
    workers: Workers,
    /// Where the data of reads that workers do belongs.
    reading: HashMap<CommandId, Span>,
    /// Stretches that a worker is giving back.
    punching: usize,
    trouble: Trouble,
}

impl Disk {
    /// Start the workers.
    ///
    /// # Errors
    /// If the kernel gives no eventfd or threads.
    pub fn new(base: Arc<Base>, cowfile: File) -> io::Result<Self> {
        let cowfile = Arc::new(cowfile);
        let workers = Workers::start(READERS, &base, &cowfile)?;
        Ok(Self {
            base,
            cowfile,
            workers,
            reading: HashMap::new(),
            punching: 0,
            trouble: Trouble::default(),
        })
    }

    /// Readable as soon as `finished` has something to say.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.workers.wake()
    }

    /// Whether workers have something to do.
    pub fn is_waiting(&self) -> bool {
        !self.reading.is_empty() || self.punching > 0
    }

    /// Run a command: its outcome, or `None` if `finished` will tell it.
    pub fn run(&mut self, command: Command, buffers: &mut impl Buffers) -> Option<Outcome> {
        match command.action {
            Action::ReadBase { offset, into } => {
                match self.base.read_at_once(buffers.bytes_mut(into), offset) {
                    AtOnce::Done(result) => Some(self.outcome("reading the base", offset, result)),
                    AtOnce::WouldWait => {
                        self.reading.insert(command.id, into);
                        self.workers.send(Job::Read {
                            id: command.id,
                            offset,
                            len: into.len,
                        });
                        None
                    }
                }
            }
            Action::ReadCow { offset, into } => {
                let result =
                    uninterrupted(|| self.cowfile.read_at(buffers.bytes_mut(into), offset));
                Some(self.outcome("reading the cowfile", offset, result))
            }
            Action::WriteCow { offset, from } => {
                let result = uninterrupted(|| self.cowfile.write_at(buffers.bytes(from), offset));
                Some(self.outcome("writing the cowfile", offset, result))
            }
            // A volatile store asks for neither.
            Action::SyncCow | Action::GrowCow { .. } => Some(Err(Failure::Io)),
            Action::PunchCow { offset, len } => {
                // Cheap for a few pages, but many take long enough for others to notice.
                self.punching += 1;
                self.workers.send(Job::Punch {
                    id: command.id,
                    offset,
                    len,
                });
                None
            }
        }
    }

    /// What the workers have finished since the last call.
    pub fn finished(&mut self, buffers: &mut impl Buffers) -> Vec<(CommandId, Outcome)> {
        let mut outcomes = Vec::new();
        while let Some(finished) = self.workers.receive() {
            outcomes.push(match finished {
                Finished::Read {
                    id,
                    offset,
                    bytes,
                    result,
                } => {
                    if let (Ok(done), Some(into)) = (&result, self.reading.remove(&id)) {
                        let got = bytes.get(..*done).unwrap_or_default();
                        if let Some(place) = buffers.bytes_mut(into).get_mut(..got.len()) {
                            place.copy_from_slice(got);
                        }
                    }
                    self.workers.give_back(bytes);
                    (id, self.outcome("reading the base", offset, result))
                }
                Finished::Punch { id, offset, result } => {
                    self.punching = self.punching.saturating_sub(1);
                    let result = result.map(|()| 0);
                    let doing = "giving back space of the cowfile";
                    (id, self.outcome(doing, offset, result))
                }
            });
        }
        outcomes
    }

    fn outcome(&mut self, doing: &str, offset: u64, result: io::Result<usize>) -> Outcome {
        result.map_err(|error| {
            self.trouble.report(doing, offset, &error);
            failure(&error)
        })
    }
}

/// What the block layer is told of an error.
fn failure(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::ENOMEM) => Failure::NoSpace,
        _ => Failure::Io,
    }
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
        let mut disk = Disk::new(base, tempfile::tempfile().unwrap()).unwrap();
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
