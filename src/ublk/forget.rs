//! A device whose next server died while it took over, too.
//!
//! Before Linux 6.16 the driver keeps in mind which address space was shown its requests (`ub->mm`, ublk_ch_mmap), and
//! shows them to no other. It forgets that when somebody goes on, but only where whoever did before had fetched
//! (ublk_ctrl_start_recovery says EINVAL if no queue is ready). Between its mapping and its fetch a server dies easily.
//! So one fetches here, without a mapping, and ends: then the driver takes the next one.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::future::Future;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, Waker};

use anyhow::Context as _;
use io_uring::{IoUring, opcode, squeue, types};
use libublk::uring_async::ublk_submit_sqe_async;
use libublk::{UblkError, sys, ublk_init_task_ring, with_task_io_ring_mut};

use super::{BUFFER_BYTES, DEPTH, explain, queue::OURS};

/// Fetch from a device that nobody serves, and end.
///
/// # Errors
/// The device is not free yet, or the ring fails.
pub(super) fn fetch_and_end(id: u32) -> anyhow::Result<()> {
    // The driver wants the task that fetched to be gone, and the ring goes with it.
    let fetching = std::thread::spawn(move || fetch(id));
    let fetched = fetching
        .join()
        .unwrap_or_else(|_| Err(anyhow::anyhow!("the thread panicked")));
    fetched.with_context(|| format!("having /dev/ublkc{id} forget who went on before"))
}

fn fetch(id: u32) -> anyhow::Result<()> {
    let node = format!("/dev/ublkc{id}");
    let device = OpenOptions::new().read(true).write(true).open(&node);
    let device = device.with_context(|| format!("opening '{node}'"))?;
    ublk_init_task_ring(|cell| {
        let ring = IoUring::builder().build(u32::from(DEPTH));
        cell.set(RefCell::new(ring.map_err(UblkError::IOError)?))
            .map_err(|_| UblkError::OtherError(-libc::EEXIST))
    })
    .map_err(|error| explain(&error).context("making a ring"))?;
    // A request would be read or written there; none comes, for the driver gives them to nobody before the end of a
    // recovery. It stays all the same.
    let buffer = vec![0u8; usize::try_from(BUFFER_BYTES)?].leak();
    let addr = u64::try_from(buffer.as_ptr().expose_provenance())?;
    let mut fetches: Vec<_> = (0..DEPTH)
        .map(|tag| {
            let entry = command(device.as_raw_fd(), tag, addr);
            Box::pin(ublk_submit_sqe_async(entry, OURS))
        })
        .collect();
    // The first look at each puts it into the ring.
    let mut context = Context::from_waker(Waker::noop());
    for fetch in &mut fetches {
        if let Poll::Ready(Err(error)) = fetch.as_mut().poll(&mut context) {
            return Err(explain(&error).context("asking for requests"));
        }
    }
    with_task_io_ring_mut(|ring| ring.submit()).context("asking for requests")?;
    Ok(())
}

/// FETCH_REQ of a tag: struct ublksrv_io_cmd of <linux/ublk_cmd.h>.
#[expect(
    clippy::host_endian_bytes,
    reason = "this machine's kernel reads it, and no medium"
)]
fn command(device: i32, tag: u16, addr: u64) -> squeue::Entry {
    let mut bytes = [0; 16];
    let (head, addr_bytes) = bytes.split_at_mut(8);
    // Queue 0, this tag, no result.
    head.copy_from_slice(&[[0; 2], tag.to_ne_bytes(), [0; 2], [0; 2]].concat());
    addr_bytes.copy_from_slice(&addr.to_ne_bytes());
    opcode::UringCmd16::new(types::Fd(device), sys::UBLK_U_IO_FETCH_REQ)
        .cmd(bytes)
        .build()
}
