//! Threads that may wait for a medium, so that the queue's thread never does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::is_full;
use super::lost::Loss;
use crate::engine::command::CommandId;
use crate::engine::units::CHUNK_LEN;

/// Something for a worker to do: it says itself how it ended.
pub(crate) type Job = Box<dyn FnOnce(&dyn Fn(Finished)) + Send>;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) id: CommandId,
    /// What was being done, for the log.
    pub(crate) doing: &'static str,
    /// Where, in bytes.
    pub(crate) offset: u64,
    /// What was read; it goes back to `Workers::give_back`.
    pub(crate) bytes: Option<PageBuffer>,
    /// The number of bytes done.
    pub(crate) result: io::Result<usize>,
}

/// Threads that do one kind of work, so that it does not hold up another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Of the base: it may be on a server that has gone, which the cowfile need not wait for.
    Base,
    Read,
    Write,
    Sync,
    Grow,
    Punch,
}

/// The pool, as its one customer sees it. The threads end when it is dropped, which waits for them.
#[derive(Debug)]
pub(crate) struct Workers {
    lanes: Vec<(Lane, Sender<Job>)>,
    threads: Vec<JoinHandle<()>>,
    finished: Receiver<Finished>,
    wake: Arc<EventFd>,
    /// Memory of reads that are over, for the next ones.
    spare: Vec<PageBuffer>,
}

impl Workers {
    /// So many threads for each lane. Where something fails they look whether a medium is gone.
    ///
    /// # Errors
    /// If the kernel gives no eventfd or threads.
    pub(crate) fn start(wanted: &[(Lane, usize)], loss: &Arc<Loss>) -> io::Result<Self> {
        let wake = Arc::new(EventFd::from_value_and_flags(
            0,
            EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
        )?);
        let (report, finished) = channel::<Finished>();
        let mut workers = Self {
            lanes: Vec::new(),
            threads: Vec::new(),
            finished,
            wake,
            spare: Vec::new(),
        };
        for &(lane, count) in wanted {
            let (jobs, queue) = channel::<Job>();
            let queue = Arc::new(Mutex::new(queue));
            workers.lanes.push((lane, jobs));
            for number in 0..count {
                let (queue, report) = (Arc::clone(&queue), report.clone());
                let (wake, loss) = (Arc::clone(&workers.wake), Arc::clone(loss));
                let tell = move |finished: Finished| {
                    match &finished.result {
                        // There is no room beyond the end of a disk that was pulled out: it is 0 bytes long.
                        Err(error) if is_full(error) => _ = loss.look_once(),
                        Err(_) => loss.look(),
                        Ok(_) => {}
                    }
                    // Whoever asked is gone when nobody hears it.
                    let _ = report.send(finished).is_ok() && wake.write(1).is_ok();
                };
                let name = format!("cowroot-{lane:?}{number}").to_lowercase();
                let thread = std::thread::Builder::new().name(name);
                workers
                    .threads
                    .push(thread.spawn(move || work(&queue, tell))?);
            }
        }
        Ok(workers)
    }

    pub(crate) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    pub(crate) fn waker(&self) -> Arc<EventFd> {
        Arc::clone(&self.wake)
    }

    pub(crate) fn send(&self, lane: Lane, job: Job) {
        // The workers hold the other ends as long as this pool lives.
        if let Some((_, jobs)) = self.lanes.iter().find(|(other, _)| *other == lane) {
            let _ = jobs.send(job);
        }
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

    /// Memory to read `len` bytes into.
    pub(crate) fn buffer(&mut self, len: usize) -> PageBuffer {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.set_len(len);
        buffer
    }

    pub(crate) fn give_back(&mut self, buffer: PageBuffer) {
        self.spare.push(buffer);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.lanes.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A worker's life: take a job and do it.
fn work(queue: &Mutex<Receiver<Job>>, tell: impl Fn(Finished)) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        job(&tell);
    }
}

/// Memory that begins where a page does: reads past the page cache want that.
#[derive(Debug, Default)]
pub(crate) struct PageBuffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl PageBuffer {
    /// Let it be `len` bytes long, whatever they are.
    pub(crate) fn set_len(&mut self, len: usize) {
        if self.memory.len() < self.start + len {
            self.memory = vec![0; len + CHUNK_LEN];
            self.start = self.memory.as_ptr().align_offset(CHUNK_LEN);
        }
        self.len = len;
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let end = self.start + self.len;
        self.memory.get(self.start..end).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let end = self.start + self.len;
        self.memory.get_mut(self.start..end).unwrap_or_default()
    }
}
