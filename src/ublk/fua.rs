//! Writes that must be durable when they are done (FUA): each is followed by a flush before it is told to be.
//!
//! The kernel would do that itself for a device without FUA, and the driver cannot have that: a write that is done and
//! waits for its flush is still "started" for the block layer (mq_flush_data_end_io), and so for the driver, which takes
//! that for a request that its server works on. When the server dies then, the driver waits for the write, the write for
//! the flush, and the flush for the next server: in ublk_wait_tagset_rqs_idle of Linux 6.12, and later with a command
//! that ublk_cancel_cmd never gives back. With FUA there is no such write.

use libublk::sys;

use crate::engine::command::{Failure, Op, Request, RequestId};
use crate::engine::units::Extent;

/// Which tags hold a request that is written and waits for its flush.
#[derive(Debug, Default)]
pub(super) struct Fua(u64);

impl Fua {
    /// Something of a request with these flags has ended. The flush that is to come next, under the same number; or the
    /// request is over.
    pub(super) fn next(
        &mut self,
        id: RequestId,
        flags: u32,
        result: Result<(), Failure>,
    ) -> Option<Request> {
        let tag = 1 << id.0;
        let was_flush = self.0 & tag != 0;
        self.0 &= !tag;
        if flags & sys::UBLK_IO_F_FUA == 0 || was_flush || result.is_err() {
            return None;
        }
        self.0 |= tag;
        Some(Request {
            id,
            op: Op::Flush,
            extent: Extent { offset: 0, len: 0 },
            metadata: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUA_WRITE: u32 = sys::UBLK_IO_OP_WRITE | sys::UBLK_IO_F_FUA;

    #[test]
    fn a_write_with_fua_is_over_when_its_flush_is_and_any_other_at_once() {
        let mut fua = Fua::default();
        let (first, last) = (RequestId(0), RequestId(63));
        assert_eq!(fua.next(first, sys::UBLK_IO_OP_WRITE, Ok(())), None);
        for _ in 0..2 {
            let flush = fua.next(last, FUA_WRITE, Ok(())).unwrap();
            assert_eq!((flush.id, flush.op), (last, Op::Flush));
            assert_eq!(fua.next(first, sys::UBLK_IO_OP_READ, Ok(())), None);
            assert_eq!(fua.next(last, FUA_WRITE, Ok(())), None);
        }
    }

    #[test]
    fn what_failed_is_over_and_the_next_under_its_number_is_flushed_again() {
        let mut fua = Fua::default();
        let id = RequestId(5);
        assert_eq!(fua.next(id, FUA_WRITE, Err(Failure::Io)), None);
        assert!(fua.next(id, FUA_WRITE, Ok(())).is_some());
        assert_eq!(fua.next(id, FUA_WRITE, Err(Failure::Io)), None);
        assert!(fua.next(id, FUA_WRITE, Ok(())).is_some());
    }
}
