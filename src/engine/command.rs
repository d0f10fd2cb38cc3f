//! What the engine is asked, and what it asks for: requests in, commands out, outcomes back in.

use crate::engine::units::Extent;

/// A request's number while it is under way; the block device's tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u16);

/// What a request wants done with its extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Fill the request's buffer from the device.
    Read,
    /// Put the request's buffer on the device.
    Write,
    /// Forget whole chunks; they read as zeros from now on. Partial chunks at the edges stay.
    Discard,
    /// Make every byte of the extent zero.
    WriteZeroes,
    /// Make everything acknowledged so far durable.
    Flush,
}

/// One request of the block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Its number, free again once it is done.
    pub id: RequestId,
    /// What to do.
    pub op: Op,
    /// Where, within the device. Ignored for `Flush`.
    pub extent: Extent,
    /// A file system's journal or tree (REQ_META): may use the space kept back from plain data.
    pub metadata: bool,
}

impl Request {
    /// Whether it may take slots that data may not: a file system's metadata, and zeroing, which is on
    /// its way to free some.
    #[must_use]
    pub fn may_use_reserve(&self) -> bool {
        self.metadata || self.op == Op::WriteZeroes
    }
}

/// A command's number while it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub usize);

/// Memory that a command reads into or writes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffer {
    /// The request's own.
    Request(RequestId),
    /// One chunk of scratch memory, lent by the driver, numbered by the engine.
    Scratch(usize),
    /// The memory that outlives the process, where a persistent store keeps what is not durable yet.
    Staging,
}

/// A stretch of a buffer, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Whose bytes.
    pub buffer: Buffer,
    /// First byte.
    pub start: usize,
    /// Number of bytes.
    pub len: usize,
}

/// What to do on a base or cowfile. Offsets and lengths are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read the base.
    ReadBase {
        /// From here in the base; the extent lies within it.
        offset: u64,
        /// Into this memory.
        into: Span,
    },
    /// Read the cowfile.
    ReadCow {
        /// From here in the cowfile.
        offset: u64,
        /// Into this memory.
        into: Span,
    },
    /// Write the cowfile.
    WriteCow {
        /// To here in the cowfile; it grows where it must.
        offset: u64,
        /// From this memory.
        from: Span,
    },
    /// Give the space of this stretch of the cowfile back; it reads as zeros then.
    PunchCow {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
    /// Make durable what was written to the cowfile before this was asked for, with one sync of each
    /// file it is in.
    ///
    /// A medium that drops what it cannot keep says so once, to whoever syncs then. So whoever drives the
    /// engine runs syncs, those within a growth among them, one at a time; and lets no sync succeed after
    /// one that failed before the engine has heard of that.
    SyncCow,
    /// Let this stretch of the cowfile exist: written with zeros and synced, in as many files as it
    /// takes, each with its header and its folder synced, before this is done.
    GrowCow {
        /// Where the cowfile ends now.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
}

/// One thing to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// To name it by in `complete`.
    pub id: CommandId,
    /// What to run.
    pub action: Action,
}

/// Why a command or request failed, as far as the block layer can tell its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The medium or the cowfile gave an error (EIO).
    Io,
    /// No room for what was written (ENOSPC).
    NoSpace,
}

/// How a command ended: the number of bytes done, which may be fewer than asked for, or why not.
pub type Outcome = Result<usize, Failure>;

/// The memory behind spans, owned by the driver.
pub trait Buffers {
    /// The bytes of a span.
    fn bytes(&self, span: Span) -> &[u8];
    /// The bytes of a span, to fill.
    fn bytes_mut(&mut self, span: Span) -> &mut [u8];

    /// Copy bytes from one place to another of the same length.
    fn copy(&mut self, from: Span, to: Span) {
        let bytes = self.bytes(from).to_vec();
        self.bytes_mut(to).copy_from_slice(&bytes);
    }
}

/// What came out of one call of the engine.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To be run, in any order.
    pub commands: Vec<Command>,
    /// Requests that are over; their buffers are free.
    pub done: Vec<(RequestId, Result<(), Failure>)>,
}

impl Span {
    /// The part of this span from `start` on, `len` bytes long.
    #[must_use]
    pub fn part(self, start: usize, len: usize) -> Self {
        debug_assert!(start + len <= self.len, "a part lies within its span");
        Self {
            buffer: self.buffer,
            start: self.start + start,
            len,
        }
    }
}

impl Action {
    /// How many bytes memory is moved for; 0 for a punch, which is done or not.
    #[must_use]
    pub fn transfer_bytes(&self) -> usize {
        match self {
            Self::ReadBase { into, .. } | Self::ReadCow { into, .. } => into.len,
            Self::WriteCow { from, .. } => from.len,
            Self::PunchCow { .. } | Self::SyncCow | Self::GrowCow { .. } => 0,
        }
    }

    /// What is left to do once the first `done` bytes are.
    #[must_use]
    pub fn rest(self, done: usize) -> Self {
        let rest = |span: Span| span.part(done, span.len - done);
        match self {
            Self::ReadBase { offset, into } => Self::ReadBase {
                offset: offset + done as u64,
                into: rest(into),
            },
            Self::ReadCow { offset, into } => Self::ReadCow {
                offset: offset + done as u64,
                into: rest(into),
            },
            Self::WriteCow { offset, from } => Self::WriteCow {
                offset: offset + done as u64,
                from: rest(from),
            },
            Self::PunchCow { .. } | Self::SyncCow | Self::GrowCow { .. } => self,
        }
    }
}
