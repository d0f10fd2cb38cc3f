//! Threads that may wait for a medium, so that the queue's thread never does.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::disk::base::Base;
use crate::engine::command::CommandId;

/// What a worker is asked.
#[derive(Debug)]
pub(crate) enum Job {
    /// Read the base.
    Read {
        id: CommandId,
        offset: u64,
        len: usize,
    },
    /// Give a stretch of the cowfile back.
    Punch {
        id: CommandId,
        offset: u64,
        len: u64,
    },
}

/// What a worker answers.
#[derive(Debug)]
pub(crate) enum Finished {
    /// What was read; `bytes` goes back to `Workers::give_back`.
    Read {
        id: CommandId,
        offset: u64,
        bytes: Vec<u8>,
        result: io::Result<usize>,
    },
    /// The stretch is a hole, or not.
    Punch {
        id: CommandId,
        offset: u64,
        result: io::Result<()>,
    },
}

/// The pool, as its one customer sees it. The threads end when it is dropped.
#[derive(Debug)]
pub(crate) struct Workers {
    reads: Sender<(Job, Vec<u8>)>,
    /// Done by a thread of their own, for hundreds of them must not hold up a read.
    punches: Sender<(Job, Vec<u8>)>,
    finished: Receiver<Finished>,
    wake: Arc<EventFd>,
    /// Memory of reads that are over, for the next ones.
    spare: Vec<Vec<u8>>,
}

impl Workers {
    pub(crate) fn start(readers: usize, base: &Arc<Base>, cowfile: &Arc<File>) -> io::Result<Self> {
        let wake = Arc::new(EventFd::from_value_and_flags(
            0,
            EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
        )?);
        let (report, finished) = channel();
        let pool = |name: &str, count: usize| {
            let (jobs, queue) = channel();
            let queue = Arc::new(Mutex::new(queue));
            for number in 0..count {
                let (base, cowfile, wake) =
                    (Arc::clone(base), Arc::clone(cowfile), Arc::clone(&wake));
                let (queue, report) = (Arc::clone(&queue), report.clone());
                let tell = move |result| report.send(result).is_ok() && wake.write(1).is_ok();
                std::thread::Builder::new()
                    .name(format!("cowroot-{name}{number}"))
                    .spawn(move || work(&queue, &base, &cowfile, tell))?;
            }
            Ok::<_, io::Error>(jobs)
        };
        let (reads, punches) = (pool("read", readers)?, pool("punch", 1)?);
        Ok(Self {
            reads,
            punches,
            finished,
            wake,
            spare: Vec::new(),
        })
    }

    pub(crate) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    pub(crate) fn send(&mut self, job: Job) {
        // The workers hold the other ends as long as this pool lives.
        let _ = match job {
            Job::Read { .. } => self.reads.send((job, self.spare.pop().unwrap_or_default())),
            Job::Punch { .. } => self.punches.send((job, Vec::new())),
        };
    }

    /// The next answer, if there is one. Call it until there is none, or the wake is lost.
    pub(crate) fn receive(&self) -> Option<Finished> {
        let next = self.finished.try_recv().ok();
        if next.is_some() {
            return next;
        }
        // Nothing left: quiet the descriptor, then look again for what came in between.
        let _ = self.wake.read();
        self.finished.try_recv().ok()
    }

    pub(crate) fn give_back(&mut self, bytes: Vec<u8>) {
        self.spare.push(bytes);
    }
}

/// A worker's life: take a job, do it, tell.
fn work(
    queue: &Mutex<Receiver<(Job, Vec<u8>)>>,
    base: &Base,
    cowfile: &File,
    tell: impl Fn(Finished) -> bool,
) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((job, mut bytes)) = next else { return };
        let finished = match job {
            Job::Read { id, offset, len } => {
                bytes.resize(len, 0);
                let result = base.read_at(&mut bytes, offset);
                Finished::Read {
                    id,
                    offset,
                    bytes,
                    result,
                }
            }
            Job::Punch { id, offset, len } => Finished::Punch {
                id,
                offset,
                result: punch(cowfile, offset, len),
            },
        };
        if !tell(finished) {
            return;
        }
    }
}

fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let (offset, len) = (
        i64::try_from(offset).map_err(invalid)?,
        i64::try_from(len).map_err(invalid)?,
    );
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    super::uninterrupted(|| Ok(fallocate(file, flags, offset, len)?))
}
