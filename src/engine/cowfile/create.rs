//! A new cowfile: two superblocks, and nothing in it.

use super::recover::Medium;
use crate::engine::command::Failure;
use crate::engine::format::commit::Link;
use crate::engine::format::page::Origin;
use crate::engine::format::superblock::{
    ERASED, Features, HEAD_LEN, Layer, LayerState, MAX_LAYERS, Merge, Superblock,
};
use crate::engine::format::{Entry, Shape};

/// A medium that can be written, one call at a time.
pub trait MediumMut: Medium {
    /// Write from the start of `slot` on.
    ///
    /// # Errors
    /// The medium cannot be written there.
    fn write(&mut self, slot: u32, from: &[u8]) -> Result<(), Failure>;

    /// Make durable what was written.
    ///
    /// # Errors
    /// It may not be durable.
    fn sync(&mut self) -> Result<(), Failure>;

    /// Let slots `from..to` exist, zeros and durable, in files that begin with their headers.
    ///
    /// # Errors
    /// It cannot; what exists is at least what existed before.
    fn grow(&mut self, from: u32, to: u32, origin: Origin) -> Result<(), Failure> {
        let _cannot = (from, to, origin);
        Err(Failure::NoSpace)
    }
}

/// What a new cowfile is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its UUID and first incarnation.
    pub origin: Origin,
    /// Sizes it is built with.
    pub shape: Shape,
    /// Bytes of the device.
    pub device_bytes: u64,
    /// Bytes of the base.
    pub base_bytes: u64,
    /// How large it may become, in slots.
    pub max_slots: u32,
    /// How much of it is written with zeros already.
    pub grown_slots: u32,
    /// Slots of each file.
    pub file_slots: u32,
    /// What `description.rs` made.
    pub description: Vec<u8>,
}

/// Slots that even the smallest cowfile has.
#[must_use]
pub fn least_slots(shape: Shape) -> u32 {
    shape.first_slot() + 1
}

/// Write the superblocks of a new cowfile. What is at their places is lost.
///
/// # Errors
/// The medium's; there is no cowfile then.
pub fn create(medium: &mut impl MediumMut, plan: Plan) -> Result<Superblock, Failure> {
    let mut layers = [None; MAX_LAYERS];
    if let Some(first) = layers.first_mut() {
        *first = Some(Layer {
            root: Entry::ABSENT,
            state: LayerState::Active,
            parent: None,
        });
    }
    let first = plan.shape.first_slot();
    let mut superblock = Superblock {
        origin: plan.origin,
        generation: 1,
        features: Features::default(),
        device_bytes: plan.device_bytes,
        base_bytes: plan.base_bytes,
        shape: plan.shape,
        max_slots: plan.max_slots,
        grown_slots: plan.grown_slots,
        file_slots: plan.file_slots,
        high_water: first + 1,
        clean: true,
        journal: Link {
            slot: first,
            seq: 1,
            previous: 0,
        },
        durable_seq: 0,
        epoch: 0,
        active_layer: 0,
        layers,
        free: Vec::new(),
        merge: Merge::default(),
        description: plan.description,
    };
    for generation in [1, 2] {
        superblock.generation = generation;
        write_superblock(medium, &superblock)?;
    }
    Ok(superblock)
}

/// Write a superblock to its place, durably.
pub(super) fn write_superblock(
    medium: &mut impl MediumMut,
    superblock: &Superblock,
) -> Result<(), Failure> {
    let chunk_len = superblock.shape.chunk_len();
    let mut bytes = vec![0; superblock.len().next_multiple_of(chunk_len)];
    superblock.encode(&mut bytes);
    medium.write(superblock.slot(), &bytes)?;
    medium.sync()
}

/// Erase what is where a superblock's head is to be, durably.
pub(super) fn erase_superblock(
    medium: &mut impl MediumMut,
    superblock: &Superblock,
) -> Result<(), Failure> {
    medium.write(superblock.slot(), &[ERASED; HEAD_LEN])?;
    medium.sync()
}
