//! How a store is run, and how full it is; nothing of it is stored.

use crate::engine::format::Shape;
use crate::engine::format::superblock::{HEAD_LEN, Superblock};
use crate::engine::plan::Geometry;
use crate::engine::units::Limits;

/// Bytes of the longest superblock that there is memory for: 64 sessions with long names take 16 KiB, the longest history
/// 80 KiB.
const MOST_SUPERBLOCK_BYTES: usize = 256 << 10;

/// When an epoch ends, besides when its memory is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// With every flush.
    Flush,
    /// When the driver says so (`commit`); flushes are done at once. A power cut goes back to the last
    /// commit, whole.
    Driver,
}

/// What to do with a write that finds no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It fails.
    Fail,
    /// It waits until something is discarded, or the driver gives up (`give_up_waiting`).
    Wait,
}

/// How a store is run; nothing of it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Requests at a time.
    pub depth: usize,
    /// Chunks that may be acknowledged and not durable.
    pub staging_chunks: u32,
    /// Buffers for pages on their way to or from the medium; at least 4.
    pub page_buffers: u32,
    /// When epochs end.
    pub durability: Durability,
    /// What happens to writes that find no room.
    pub when_full: WhenFull,
    /// Commit pages after which a checkpoint begins; at twice as many, commits wait until it has ended.
    pub journal_pages: usize,
    /// Chunks named in the journal after which a checkpoint begins; at twice as many, commits wait.
    pub journal_chunks: usize,
    /// Tree pages kept in RAM.
    pub cached_pages: usize,
    /// Slots grown at a time, from one multiple of it to the next; whole zones. 0: it never grows.
    pub grow_slots: u32,
    /// Slots that only a file system's metadata may take.
    pub metadata_reserve: u32,
    /// Where incarnations come from. Never the same twice.
    pub random: u64,
}

/// The device and its base, in chunks.
pub(super) fn geometry(superblock: &Superblock) -> Geometry {
    Geometry {
        device_bytes: superblock.device_bytes,
        base_bytes: superblock.base_bytes,
        chunk_bytes: superblock.shape.chunk_bytes(),
    }
}

/// How full a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What it may grow to, and what of that is not for data.
    pub limits: Limits,
    /// Slots in use, or not known to be free yet.
    pub used: u32,
    /// Whether all trees have been read, so that there are none of the latter.
    pub is_known: bool,
    /// Bytes of RAM that say where chunks are: tree pages, and what the journal says.
    pub map_bytes: u64,
    /// Chunks acknowledged and not durable.
    pub staged: u32,
    /// The last durable epoch.
    pub epoch: u64,
}

impl Settings {
    /// Bytes of staging memory that a driver must lend for this superblock.
    #[must_use]
    pub fn staging_bytes(&self, superblock: &Superblock) -> usize {
        self.superblock_at(superblock.shape) + self.superblock_bytes(superblock)
    }

    /// Bytes of it for a superblock: its description may become longer while it is in use, when sessions begin.
    fn superblock_bytes(&self, superblock: &Superblock) -> usize {
        let shape = superblock.shape;
        let now = superblock.len().next_multiple_of(shape.chunk_len());
        let most = (shape.zone_slots as usize) << shape.chunk_shift;
        now.max(most.min(MOST_SUPERBLOCK_BYTES)) + shape.chunk_len()
    }

    /// Whether a superblock with this description can be put together there.
    pub(super) fn has_room_for(&self, superblock: &Superblock, description_bytes: usize) -> bool {
        let shape = superblock.shape;
        let len = (HEAD_LEN + description_bytes).next_multiple_of(shape.chunk_len());
        let zone_bytes = (shape.zone_slots as usize) << shape.chunk_shift;
        len <= self.superblock_bytes(superblock).min(zone_bytes)
    }

    /// Tree pages to keep in RAM. Every request, and a checkpoint, may be on its way down a tree: none throws
    /// out what another has just read.
    pub(super) fn cached_pages(&self, superblock: &Superblock) -> usize {
        let height = usize::from(superblock.shape.height(superblock.chunks()));
        let layers = superblock.stack().len().max(1);
        self.cached_pages
            .max((self.depth + 1) * (height + 1) * layers)
    }

    /// Where superblocks are put together in staging memory.
    pub(super) fn superblock_at(&self, shape: Shape) -> usize {
        (self.staging_chunks as usize + self.page_buffers as usize) << shape.chunk_shift
    }
}
