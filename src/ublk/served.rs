//! What a queue is given to serve.

use std::time::Duration;

use super::asks::Asks;
use crate::disk::Disk;
use crate::engine::command::Outbox;
use crate::sys::SharedBytes;

/// How long what is acknowledged may stay in memory, where no flush asks for it.
pub type CommitAfter = Option<Duration>;

/// What a queue serves, and how.
#[derive(Debug)]
pub struct Served<E> {
    /// Base and cowfile as one disk.
    pub engine: E,
    /// What it wants done before anything is asked.
    pub first: Outbox,
    /// Scratch chunks that the engine wants to be lent.
    pub scratch_chunks: usize,
    /// Where a persistent store keeps what is not durable.
    pub staging: Option<SharedBytes>,
    /// Runs its commands.
    pub disk: Disk,
    /// Where it is asked to change its layers.
    pub asks: Asks,
    /// When it commits by itself; a volatile store never does.
    pub commit_after: CommitAfter,
}
