//! Runs the engine's commands on files and block devices.
//!
//! What needs only RAM is done at once, in the thread that asks. What may wait for a medium goes to
//! workers, which report back through a channel and wake the thread through an eventfd: a slow read
//! never holds up a request that needs only RAM.

pub mod base;
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

/// Threads that may wait for a medium at the same time.
const WORKERS: usize = 4;

/// A base and a tmpfs cowfile.
#[derive(Debug)]
pub struct Disk {
    base: Arc<Base>,
    cowfile: Arc<File>,
    workers: Workers,
    /// Where the data of reads that workers do belongs.
    reading: HashMap<CommandId, Span>,
    trouble: Trouble,
}

impl Disk {
    /// Start the workers.
    ///
    /// # Errors
    /// If the kernel gives no eventfd or threads.
    pub fn new(base: Arc<Base>, cowfile: File) -> io::Result<Self> {
        let cowfile = Arc::new(cowfile);
        let workers = Workers::start(WORKERS, &base, &cowfile)?;
        Ok(Self {
            base,
            cowfile,
            workers,
            reading: HashMap::new(),
            trouble: Trouble::default(),
        })
    }

    /// Readable as soon as `finished` has something to say.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.workers.wake()
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
            Action::PunchCow { offset, len } => {
                // Cheap for a few pages, but a gibibyte takes long enough for others to notice.
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
                Finished::Punch { id, offset, result } => (
                    id,
                    self.outcome(
                        "giving back space of the cowfile",
                        offset,
                        result.map(|()| 0),
                    ),
                ),
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

    fn wait_for(disk: &mut Disk, memory: &mut Memory) -> Vec<(CommandId, Outcome)> {
        let wake = disk.wake();
        let mut poll = [nix::poll::PollFd::new(
            wake.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        assert_eq!(
            nix::poll::poll(&mut poll, 5000u16).unwrap(),
            1,
            "the wake descriptor becomes readable"
        );
        disk.finished(memory)
    }

    #[test]
    fn commands_do_what_they_say_now_or_later() {
        let mut base = tempfile::NamedTempFile::new().unwrap();
        base.write_all(&[7; 10_000]).unwrap();
        let cowfile = tempfile::tempfile().unwrap();
        let mut disk = Disk::new(Arc::new(Base::open(base.path()).unwrap()), cowfile).unwrap();
        let mut memory = Memory(vec![1; 8192]);
        let span = |start, len| Span {
            buffer: Buffer::Request(RequestId(0)),
            start,
            len,
        };
        let mut run = |number, action| {
            let id = CommandId(number);
            match disk.run(Command { id, action }, &mut memory) {
                Some(outcome) => (outcome, memory.0.clone()),
                None => {
                    let outcomes = wait_for(&mut disk, &mut memory);
                    assert_eq!(outcomes.len(), 1);
                    assert_eq!(outcomes[0].0, id);
                    (outcomes[0].1, memory.0.clone())
                }
            }
        };
        let (outcome, bytes) = run(
            1,
            Action::ReadBase {
                offset: 9000,
                into: span(0, 4096),
            },
        );
        assert_eq!(outcome, Ok(1000), "the base ends there");
        assert_eq!((bytes[999], bytes[1000]), (7, 1));
        assert_eq!(
            run(
                2,
                Action::WriteCow {
                    offset: 4096,
                    from: span(0, 4096)
                }
            )
            .0,
            Ok(4096)
        );
        assert_eq!(
            run(
                3,
                Action::ReadCow {
                    offset: 4096,
                    into: span(4096, 4096)
                }
            )
            .1[4096],
            7
        );
        assert_eq!(
            run(
                4,
                Action::PunchCow {
                    offset: 4096,
                    len: 4096
                }
            )
            .0,
            Ok(0)
        );
        assert_eq!(
            run(
                5,
                Action::ReadCow {
                    offset: 4096,
                    into: span(4096, 4096)
                }
            )
            .1[4096],
            0
        );
    }
}
