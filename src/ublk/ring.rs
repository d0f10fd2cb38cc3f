//! The ring of a queue's thread.

use std::cell::RefCell;

use io_uring::IoUring;
use libublk::io::UblkDev;
use libublk::{UblkError, ublk_init_task_ring};

/// Make this thread's ring, which libublk then uses.
///
/// What the kernel has for us it leaves to be fetched, and says so by a flag in memory that we share: so
/// one can look without a system call, and nothing interrupts this thread meanwhile.
pub(super) fn make_ring(dev: &UblkDev) -> Result<(), UblkError> {
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
