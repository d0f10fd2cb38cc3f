//! What the driver has still to do behind a server's end, before another one may go on.
//!
//! Before Linux 6.15 a work of the kernel's (ublk_quiesce_work_fn) ends what such a device has under way. It says that
//! the device is quiesced, and only then cancels what the server had fetched; and it finds that by the device's slots,
//! whoever filled them. Where its CPU is busy elsewhere for a moment just there, another server has emptied the slots
//! and fetched: its commands are cancelled, and the driver goes on to use what the kernel has freed. What follows is a
//! queue that spins in the kernel, or a panic. So nobody goes on before that work is done.

use std::io;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Whoever reads it waits for work on each CPU's queue (vmstat_refresh, schedule_on_each_cpu), and the queues are first
/// in, first out: the driver's, which is on one of them, has been begun by then.
const BEHIND_ALL_WORK: &str = "/proc/sys/vm/stat_refresh";

/// A CPU that a real-time task keeps for itself does no such work, and the device has people waiting for it.
const LONGEST: Duration = Duration::from_secs(1);

/// For what was begun and had to wait itself, on a kernel that can be preempted.
const SETTLING: Duration = Duration::from_millis(10);

/// Wait until the kernel has done what is queued of its work behind the end of a device's server: all of it once that
/// server has closed the device.
pub(super) fn settle() {
    if let Err(error) = wait_for_work() {
        log::debug!("waiting for the kernel's work with '{BEHIND_ALL_WORK}': {error}");
    }
    thread::sleep(SETTLING);
}

/// # Errors
/// There is no such file, as in a kernel for one CPU, or no CPU is free for it in time.
fn wait_for_work() -> io::Result<()> {
    let (done, waits) = channel();
    let read = move || done.send(std::fs::read(BEHIND_ALL_WORK).map(drop));
    thread::Builder::new()
        .name("cowroot-settle".into())
        .spawn(read)?;
    let read = waits.recv_timeout(LONGEST);
    read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
