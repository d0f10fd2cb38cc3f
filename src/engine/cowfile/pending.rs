//! What the store remembers of requests and commands between one call and the next.

use std::collections::VecDeque;
use std::ops::Range;

use super::trees::Missing;
use crate::engine::command::{Action, Failure, Outbox, Request, RequestId, Span};
use crate::engine::units::Extent;

/// What a call may touch besides the store: the driver's memory, and what the driver is told.
pub(super) struct Io<'a, B> {
    pub(super) buffers: &'a mut B,
    pub(super) out: &'a mut Outbox,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) request: Request,
    /// What is still to do, in this order.
    pub(super) todo: VecDeque<Piece>,
    /// Commands it waits for.
    pub(super) pending: usize,
    pub(super) failure: Option<Failure>,
}

/// A part of a request.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// Read this.
    Read(Extent),
    /// Write chunks that the request covers.
    Whole(Range<u64>),
    /// Let chunks be zeros.
    Zero(Range<u64>),
    /// Write, or zero, a part of one chunk.
    Partial(Extent),
    /// The old content of its chunk is in this place of the pool: lay the part over it.
    Ready(Extent, u32),
    /// Wait for the epoch that is open now.
    Flush,
}

/// How it went with a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing more to do, but perhaps to wait for commands.
    Done,
    /// Somebody will wake it: a tree page, or room.
    Parked,
    /// It cannot be done.
    Failed(Failure),
}

/// A command under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) action: Action,
    pub(super) purpose: Purpose,
    /// Whose, if a request's.
    pub(super) request: Option<RequestId>,
}

/// Who wanted a write or a sync that no request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Commit,
    Checkpoint,
    Restart,
    Flip,
}

/// What becomes of a command's outcome.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Base to request.
    FromBase,
    /// Slots to `into`, which is the request's memory or, for a part of a chunk, scratch.
    FromSlots {
        first: u32,
        crcs: Vec<u32>,
        into: Span,
        scratch: Option<(usize, Extent)>,
    },
    /// The old content of a chunk that a partial write goes into; of a slot with this checksum.
    Fill {
        piece: Extent,
        place: u32,
        slot: Option<(u32, u32)>,
    },
    /// Tree pages, for requests or for the scan: of slots near each other, into buffers in a row.
    Load {
        pages: Vec<Missing>,
        buffer: u32,
        scan: bool,
    },
    /// A job's; its page buffer is free then.
    Job { job: Job, buffer: Option<u32> },
    /// A sync that a broken rule did not wait for, and the flushes that do.
    LateSync(Vec<RequestId>),
    /// More slots.
    Grow { to: u32 },
}
