//! What the engine remembers of requests and commands between one call and the next.

use std::ops::Range;

use crate::engine::command::{Action, Failure, Outbox, Request, RequestId};
use crate::engine::units::{ChunkIndex, Extent};

/// What a call may touch besides the engine: the driver's memory, and what the driver is told.
pub(super) struct Io<'a, B> {
    pub(super) buffers: &'a mut B,
    pub(super) out: &'a mut Outbox,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) request: Request,
    /// Commands and starved pieces it still waits for.
    pub(super) pending: usize,
    pub(super) failure: Option<Failure>,
}

/// A command under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) action: Action,
    pub(super) purpose: Purpose,
    /// Whose; a punch is nobody's.
    pub(super) request: Option<RequestId>,
}

/// What becomes of a command's outcome.
#[derive(Debug)]
pub(super) enum Purpose {
    /// Data for a read; of these slots, if of any.
    Read { slots: Range<u32> },
    /// Overwrites slots that have their names already.
    InPlace { scratch: Option<usize> },
    /// Fills slots that get their names when it is done.
    Fresh {
        first_chunk: u64,
        slots: Range<u32>,
        scratch: Option<usize>,
    },
    /// The old content of a chunk that a partial write goes into.
    Fill { piece: Extent, scratch: usize },
    /// Gives slots back.
    Punch { slots: Range<u32> },
}

/// A part of a write that needs slots.
#[derive(Debug)]
pub(super) enum Piece {
    /// Whole chunks from the request's buffer.
    Whole(Range<u64>),
    /// A chunk made ready in scratch memory.
    Ready { chunk: ChunkIndex, scratch: usize },
}
