//! The queue: a thread that takes requests from the kernel, drives the engine, and completes them.
//!
//! There and back once: a request comes as a completion on the ring, the engine turns it into
//! commands, `disk` runs them at once or later, and the result goes back with the next submission: one
//! system call gives results back and takes the next requests. Where requests come one by one, the next
//! is looked for before sleeping (`spin`).

use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use io_uring::{IoUring, opcode, types};
use libublk::helpers::IoBuf;
use libublk::io::{BufDesc, BufDescList, UblkDev, UblkIOCtx, UblkQueue};
use libublk::{UblkError, UblkIORes, sys, ublk_init_task_ring, with_task_io_ring_mut};

use crate::disk::Disk;
use crate::engine::command::{Buffer, Buffers, Failure, Op, Outbox, Request, RequestId, Span};
use crate::engine::stack::{Stack, scratch_chunks};
use crate::engine::units::{CHUNK_LEN, Extent, SECTOR_BYTES};
use crate::sys::SharedWords;
use crate::ublk::{DEPTH, fullness::Fullness, spin::Spin};

/// What the queue tells whoever asks, updated after each round.
#[derive(Debug, Default)]
pub struct Counters {
    /// Slots of the cowfile that hold data.
    pub used_slots: AtomicU32,
    /// Bytes of shared memory the map takes.
    pub map_bytes: AtomicU64,
    /// Requests served so far.
    pub requests: AtomicU64,
    /// Requests that ended in an error so far.
    pub failed: AtomicU64,
    /// Requests of a swap area; there should be none.
    pub swap_requests: AtomicU64,
}

/// The tags' buffers, which the kernel copies requests' data to and from, and the engine's scratch.
struct Memory {
    tags: Vec<IoBuf<u8>>,
    scratch: Vec<u8>,
}

impl Buffers for Memory {
    fn bytes(&self, span: Span) -> &[u8] {
        let (memory, start) = match span.buffer {
            Buffer::Request(id) => (
                self.tags
                    .get(usize::from(id.0))
                    .map_or(&[][..], IoBuf::as_slice),
                span.start,
            ),
            Buffer::Scratch(index) => (&self.scratch[..], index * CHUNK_LEN + span.start),
            // A volatile store has none.
            Buffer::Staging => (&[][..], span.start),
        };
        memory
            .get(start..start + span.len)
            .unwrap_or_else(|| out_of_bounds(span))
    }

    fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let (memory, start) = match span.buffer {
            Buffer::Request(id) => (
                self.tags
                    .get_mut(usize::from(id.0))
                    .map_or(&mut [][..], IoBuf::as_mut_slice),
                span.start,
            ),
            Buffer::Scratch(index) => (&mut self.scratch[..], index * CHUNK_LEN + span.start),
            Buffer::Staging => (&mut [][..], span.start),
        };
        memory
            .get_mut(start..start + span.len)
            .unwrap_or_else(|| out_of_bounds(span))
    }
}

/// Marks the completion that says a worker has finished; requests carry their tag instead.
const WAKE: u64 = 1 << 63;

#[expect(
    clippy::panic,
    reason = "the engine asks only for memory it was lent; anything else would corrupt data"
)]
fn out_of_bounds(span: Span) -> ! {
    panic!("a span lies within its buffer: {span:?}")
}

/// Serve the device until it is stopped.
///
/// # Errors
/// If the queue cannot be set up, or the ring fails; the device is dead then.
pub fn serve(
    dev: &UblkDev,
    stack: Stack<SharedWords>,
    disk: Disk,
    counters: &Counters,
) -> anyhow::Result<()> {
    let depth = usize::from(DEPTH);
    let memory = Memory {
        tags: dev.alloc_queue_io_bufs(),
        scratch: vec![0; scratch_chunks(depth) * CHUNK_LEN],
    };
    let setup = |error: UblkError| super::explain(&error).context("setting up the queue");
    make_ring(dev).map_err(setup)?;
    let queue = UblkQueue::new(0, dev)
        .map_err(setup)?
        .submit_fetch_commands_unified(BufDescList::Slices(Some(&memory.tags)))
        .map_err(setup)?;
    let mut server = Server {
        queue,
        stack,
        disk,
        memory,
        counters,
        fullness: Fullness::default(),
        spin: Spin::on(std::thread::available_parallelism().map_or(1, usize::from)),
        arrived: Vec::new(),
        several: false,
        stopping: false,
    };
    server.listen_to_workers()?;
    server.run()
}

/// Make this thread's ring, which libublk then uses.
///
/// What the kernel has for us it leaves to be fetched, and says so by a flag in memory that we share: so
/// one can look without a system call, and nothing interrupts this thread meanwhile.
fn make_ring(dev: &UblkDev) -> Result<(), UblkError> {
    ublk_init_task_ring(|cell| {
        let ring = IoUring::builder()
            .setup_cqsize(u32::from(dev.tgt.cq_depth))
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(u32::from(dev.tgt.sq_depth))
            .map_err(UblkError::IOError)?;
        cell.set(RefCell::new(ring))
            .map_err(|_| UblkError::OtherError(-libc::EEXIST))
    })
}

struct Server<'a> {
    queue: UblkQueue<'a>,
    stack: Stack<SharedWords>,
    disk: Disk,
    memory: Memory,
    counters: &'a Counters,
    fullness: Fullness,
    spin: Spin,
    /// What the ring gave and is not served yet: whose it is, and its result.
    arrived: Vec<(u64, i32)>,
    /// The last time several came at once.
    several: bool,
    stopping: bool,
}

impl Server<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        while self.next_round()? {
            let mut out = Outbox::default();
            let mut arrived = std::mem::take(&mut self.arrived);
            self.several = arrived.len() > 1;
            for (mark, result) in arrived.drain(..) {
                if mark & WAKE != 0 {
                    self.collect_from_workers(&mut out)?;
                } else if u32::try_from(result) == Ok(sys::UBLK_IO_RES_OK) {
                    self.accept(UblkIOCtx::user_data_to_tag(mark), &mut out)?;
                } else {
                    // The device is being stopped. A poll submitted now would be waited for.
                    self.stopping = true;
                }
            }
            self.arrived = arrived;
            self.pump(out)?;
            self.publish();
        }
        Ok(())
    }

    /// Give results back, and wait until there is something to do. False when the device is stopped.
    fn next_round(&mut self) -> anyhow::Result<bool> {
        // Workers wait for a medium, which takes its time, and need CPUs themselves. And where several
        // requests came at once, the next are there already or soon: one system call is enough.
        let width = self
            .spin
            .width()
            .filter(|_| !self.several && !self.disk.is_waiting());
        if width.is_some() && !self.enter(0)? {
            return Ok(false);
        }
        if !self.arrived.is_empty() {
            return Ok(true);
        }
        let began = Instant::now();
        let in_vain = match width {
            Some(width) if !self.look(began, width) => began.elapsed(),
            _ => Duration::ZERO,
        };
        let going_on = self.enter(1)?;
        self.spin.learn(began.elapsed(), in_vain);
        Ok(going_on)
    }

    /// One system call: submit, take what is there, and sleep until that are `at_least` so many.
    fn enter(&mut self, at_least: usize) -> anyhow::Result<bool> {
        let arrived = &mut self.arrived;
        let round = self
            .queue
            .flush_and_wake_io_tasks(|mark, cqe, _| arrived.push((mark, cqe.result())), at_least);
        match round {
            Ok(_) => Ok(true),
            Err(UblkError::QueueIsDown) => Ok(false),
            Err(UblkError::IOError(error)) if error.kind() == std::io::ErrorKind::Interrupted => {
                Ok(true)
            }
            Err(error) => Err(super::explain(&error).context("waiting for requests")),
        }
    }

    /// Look at the ring for so long. Whether there is something to fetch.
    fn look(&self, began: Instant, width: Duration) -> bool {
        with_task_io_ring_mut(|ring| {
            loop {
                if ring.submission().taskrun() || !ring.completion().is_empty() {
                    return true;
                }
                if began.elapsed() >= width {
                    return false;
                }
                std::hint::spin_loop();
            }
        })
    }

    /// Have the ring tell when a worker has finished.
    fn listen_to_workers(&self) -> anyhow::Result<()> {
        let wake = types::Fd(self.disk.wake().as_raw_fd());
        let poll = opcode::PollAdd::new(wake, libc::POLLIN as u32)
            .build()
            .user_data(WAKE);
        self.queue
            .ublk_submit_sqe_sync(poll)
            .map_err(|error| super::explain(&error).context("listening to the workers"))
    }

    fn collect_from_workers(&mut self, out: &mut Outbox) -> anyhow::Result<()> {
        for (id, outcome) in self.disk.finished(&mut self.memory) {
            self.stack.complete(id, outcome, &mut self.memory, out);
        }
        if self.stopping {
            return Ok(());
        }
        self.listen_to_workers()
    }

    /// A request has come in under `tag`.
    fn accept(&mut self, tag: u32, out: &mut Outbox) -> anyhow::Result<()> {
        let tag = u16::try_from(tag).context("reading a tag")?;
        let iod = self.queue.get_iod(tag);
        let extent = Extent {
            offset: iod.start_sector.saturating_mul(SECTOR_BYTES),
            len: u64::from(iod.nr_sectors) * SECTOR_BYTES,
        };
        let flags = iod.op_flags;
        if flags & sys::UBLK_IO_F_SWAP != 0
            && self.counters.swap_requests.fetch_add(1, Ordering::Relaxed) == 0
        {
            log::error!(
                "swap on this device: its cowfile is in RAM, so the machine can dead-lock; use swapoff"
            );
        }
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let id = RequestId(tag);
        let op = match flags & 0xff {
            sys::UBLK_IO_OP_READ => Op::Read,
            sys::UBLK_IO_OP_WRITE => Op::Write,
            sys::UBLK_IO_OP_FLUSH => Op::Flush,
            sys::UBLK_IO_OP_DISCARD => Op::Discard,
            sys::UBLK_IO_OP_WRITE_ZEROES => Op::WriteZeroes,
            _ => return self.finish(id, -libc::EOPNOTSUPP),
        };
        let metadata = flags & sys::UBLK_IO_F_META != 0;
        self.stack.submit(
            Request {
                id,
                op,
                extent,
                metadata,
            },
            &mut self.memory,
            out,
        );
        Ok(())
    }

    /// Run commands until only workers have any left, and complete what is done.
    fn pump(&mut self, mut out: Outbox) -> anyhow::Result<()> {
        loop {
            for (id, result) in std::mem::take(&mut out.done) {
                let code = match result {
                    Ok(()) => self.transferred(id),
                    Err(Failure::Io) => -libc::EIO,
                    Err(Failure::NoSpace) => -libc::ENOSPC,
                };
                self.finish(id, code)?;
            }
            let Some(command) = out.commands.pop() else {
                return Ok(());
            };
            if let Some(outcome) = self.disk.run(command, &mut self.memory) {
                self.stack
                    .complete(command.id, outcome, &mut self.memory, &mut out);
            }
        }
    }

    /// What the kernel wants to hear of a request that is done: its bytes where bytes were moved.
    fn transferred(&self, id: RequestId) -> i32 {
        let iod = self.queue.get_iod(id.0);
        match iod.op_flags & 0xff {
            sys::UBLK_IO_OP_READ | sys::UBLK_IO_OP_WRITE => {
                i32::try_from(iod.nr_sectors * 512).unwrap_or(i32::MAX)
            }
            _ => 0,
        }
    }

    /// Give the tag back to the kernel with its result, and ask for the next request.
    fn finish(&self, id: RequestId, code: i32) -> anyhow::Result<()> {
        if code < 0 {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
        let Some(buffer) = self.memory.tags.get(usize::from(id.0)) else {
            bail!("completing tag {}", id.0)
        };
        self.queue
            .complete_io_cmd_unified(
                id.0,
                BufDesc::Slice(buffer.as_slice()),
                Ok(UblkIORes::Result(code)),
            )
            .map_err(|error| super::explain(&error).context("completing a request"))
    }

    fn publish(&mut self) {
        let usage = self.stack.usage();
        self.fullness.watch(usage);
        self.counters
            .used_slots
            .store(usage.used_slots, Ordering::Relaxed);
        self.counters
            .map_bytes
            .store(usage.map_bytes, Ordering::Relaxed);
    }
}
