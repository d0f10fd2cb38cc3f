//! The queue: a thread that takes requests from the kernel, drives the engine, and completes them.
//!
//! There and back once: a request comes as a completion on the ring, the engine turns it into
//! commands, `disk` runs them at once or later, and the result goes back with the next submission: one
//! system call gives results back and takes the next requests. Where requests come one by one, the next
//! is looked for before sleeping (`spin`).

use std::os::fd::AsRawFd;
use std::sync::{atomic::Ordering, mpsc::Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use io_uring::{opcode, types};
use libublk::io::{BufDesc, BufDescList, UblkDev, UblkIOCtx, UblkQueue};
use libublk::{UblkError, UblkIORes, sys, with_task_io_ring_mut};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::disk::Disk;
use crate::engine::command::{Failure, Op, Outbox, Request, RequestId};
use crate::engine::driven::{Engine, Gauges};
use crate::engine::units::{CHUNK_LEN, Extent, SECTOR_BYTES};
use crate::sys::SharedBytes;
use crate::ublk::{asks::Hearing, clock::Clock, counters::Counters, fua::Fua, fullness::Fullness};
use crate::ublk::{devices, memory::Memory, ring::make_ring, served::Served, spin::Spin};

/// Marks what is not a request, to libublk too (`UblkUringData::Target`); requests carry their tag instead.
pub(super) const OURS: u64 = 1 << 63;
/// Marks the completion that says a worker has finished.
const WAKE: u64 = OURS;
/// Marks the one that says that it is time to commit.
const TICK: u64 = OURS | 1;

/// Serve the device until it is stopped; then make durable what is acknowledged. `fullness` hears of steps, in percent.
///
/// # Errors
/// If the queue cannot be set up, or the ring fails, and the device is dead then; or if the cowfile could not
/// be closed.
pub fn serve<E: Engine>(
    dev: &UblkDev,
    served: Served<E>,
    counters: &Counters,
    fullness: Sender<u64>,
) -> anyhow::Result<()> {
    let memory = Memory {
        tags: dev.alloc_queue_io_bufs(),
        scratch: vec![0; served.scratch_chunks * CHUNK_LEN],
        staging: served.staging,
    };
    let setup = |error: UblkError| super::explain(&error).context("setting up the queue");
    make_ring(dev).map_err(setup)?;
    let queue = UblkQueue::new(0, dev)
        .map_err(setup)?
        .submit_fetch_commands_unified(BufDescList::Slices(Some(&memory.tags)))
        .map_err(setup)?;
    counters.begin(&served.engine.gauges());
    let mut server = Server {
        queue,
        engine: served.engine,
        disk: served.disk,
        memory,
        counters,
        clock: Clock::new(served.commit_after)?,
        fullness: Fullness::told_to(fullness),
        fua: Fua::default(),
        hearing: Hearing::new(served.asks),
        spin: Spin::on(std::thread::available_parallelism().map_or(1, usize::from)),
        arrived: Vec::new(),
        several: false,
        stopping: false,
    };
    server.listen(WAKE)?;
    // What stops the one is no reason for the other to forget: but a process that goes on finds it in shared memory.
    let mut out = served.first;
    let mut ran = server.run(&mut out);
    let has_heir = counters.has_heir.load(Ordering::Relaxed);
    if ran.is_ok() && has_heir && devices::goes_on(dev.dev_info.dev_id) {
        ran = Err(anyhow!("the driver took the queue away, not the device"));
    }
    if ran.is_err() && has_heir {
        // To take the ring apart the kernel would wait for requests that never come; and workers may wait for a medium.
        std::mem::forget(server);
        return ran;
    }
    let closed = server.close(out);
    ran.and(closed)
}

struct Server<'a, E> {
    queue: UblkQueue<'a>,
    engine: E,
    disk: Disk,
    memory: Memory<SharedBytes>,
    counters: &'a Counters,
    clock: Clock,
    fullness: Fullness,
    fua: Fua,
    hearing: Hearing,
    spin: Spin,
    /// What the ring gave and is not served yet: whose it is, and its result.
    arrived: Vec<(u64, i32)>,
    /// The last time several came at once.
    several: bool,
    stopping: bool,
}

impl<E: Engine> Server<'_, E> {
    fn run(&mut self, out: &mut Outbox) -> anyhow::Result<()> {
        self.pump(out)?;
        while self.next_round()? {
            let mut arrived = std::mem::take(&mut self.arrived);
            self.several = arrived.len() > 1;
            for (mark, result) in arrived.drain(..) {
                if mark == WAKE {
                    self.collect_from_workers(out);
                    self.end_if_lost()?;
                    self.listen(WAKE)?;
                } else if mark == TICK {
                    self.clock.rang();
                    self.engine.commit(&mut self.memory, out);
                } else if u32::try_from(result) == Ok(sys::UBLK_IO_RES_OK) {
                    self.accept(UblkIOCtx::user_data_to_tag(mark), out)?;
                } else {
                    // The device is being stopped.
                    self.stopping = true;
                }
            }
            self.arrived = arrived;
            self.hearing.go_on(&mut self.engine, &mut self.memory, out);
            self.pump(out)?;
            self.publish();
            if self.clock.is_to_be_set(self.engine.gauges().is_dirty) {
                self.clock.set()?;
                self.listen(TICK)?;
            }
        }
        Ok(())
    }

    /// Make durable what is acknowledged, and leave a cowfile that opens fast. No requests come any more.
    fn close(&mut self, mut out: Outbox) -> anyhow::Result<()> {
        self.engine.close(&mut self.memory, &mut out);
        loop {
            while let Some(command) = out.commands.pop() {
                if let Some(outcome) = self.disk.run(command, &mut self.memory) {
                    self.engine
                        .complete(command.id, outcome, &mut self.memory, &mut out);
                }
            }
            self.disk.go();
            self.publish();
            if self.engine.is_closed() {
                break;
            }
            if !self.disk.is_waiting() {
                bail!(
                    "closing the cowfile: it waits for nothing and is not closed; this is a bug in cowroot"
                );
            }
            let wake = self.disk.wake();
            match poll(
                &mut [PollFd::new(wake, PollFlags::POLLIN)],
                PollTimeout::NONE,
            ) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).context("waiting for the cowfile"),
            }
            self.collect_from_workers(&mut out);
        }
        self.hearing.close(&self.engine);
        let Gauges { broken, epoch, .. } = self.engine.gauges();
        match broken {
            Some(failure) => bail!(
                "closing the cowfile: {}; what was committed before (up to epoch {epoch}) is in it, what came later is \
                 lost; `cowroot check` says more",
                match failure {
                    Failure::NoSpace => "it has no room left to commit",
                    Failure::Io => "its medium fails, or what is on it is damaged",
                }
            ),
            None => Ok(()),
        }
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

    /// Have the ring tell when a worker has finished, or when it is time to commit.
    fn listen(&self, mark: u64) -> anyhow::Result<()> {
        // The device is being stopped: a poll submitted now would be waited for.
        if self.stopping {
            return Ok(());
        }
        let descriptor = match mark {
            WAKE => self.disk.wake(),
            _ => self.clock.descriptor(),
        };
        let poll = opcode::PollAdd::new(types::Fd(descriptor.as_raw_fd()), libc::POLLIN as u32)
            .build()
            .user_data(mark);
        self.queue
            .ublk_submit_sqe_sync(poll)
            .map_err(|error| super::explain(&error).context("listening to the workers"))
    }

    fn collect_from_workers(&mut self, out: &mut Outbox) {
        let finished = self.disk.finished(&mut self.memory);
        // What fails for a medium that is gone is done again by whoever goes on when it is back.
        if self.is_to_end() {
            return;
        }
        for (id, outcome) in finished {
            self.engine.complete(id, outcome, &mut self.memory, out);
        }
    }

    /// Whether a medium is gone, and somebody else waits for it.
    fn is_to_end(&self) -> bool {
        let has_heir = self.counters.has_heir.load(Ordering::Relaxed);
        has_heir && !self.stopping && self.disk.lost().is_some()
    }

    fn end_if_lost(&self) -> anyhow::Result<()> {
        let lost = self.disk.lost().filter(|_| self.is_to_end());
        lost.map_or(Ok(()), |lost| Err(lost.into()))
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
        self.counters.in_flight.fetch_add(1, Ordering::Relaxed);
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
        self.engine.submit(
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
    fn pump(&mut self, out: &mut Outbox) -> anyhow::Result<()> {
        loop {
            for (id, result) in std::mem::take(&mut out.done) {
                let flags = self.queue.get_iod(id.0).op_flags;
                if let Some(flush) = self.fua.next(id, flags, result) {
                    self.engine.submit(flush, &mut self.memory, out);
                    continue;
                }
                let code = match result {
                    Ok(()) => self.transferred(id),
                    Err(Failure::Io) => -libc::EIO,
                    Err(Failure::NoSpace) => -libc::ENOSPC,
                };
                self.finish(id, code)?;
            }
            if !out.done.is_empty() {
                continue;
            }
            let Some(command) = out.commands.pop() else {
                self.disk.go();
                return Ok(());
            };
            if let Some(outcome) = self.disk.run(command, &mut self.memory) {
                self.engine
                    .complete(command.id, outcome, &mut self.memory, out);
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
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
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
        let gauges = self.engine.gauges();
        self.fullness.watch(&gauges);
        self.counters.publish(&gauges);
    }
}
