//! Layers of a closed cowfile: a new one begun, the uppermost dropped, by its superblocks alone.
//!
//! What only a dropped layer named is free at the next open, which looks what the trees name.

use super::create::{MediumMut, erase_superblock, write_superblock};
use super::found::Standing;
use super::recover::Recovered;
use crate::engine::command::Failure;
use crate::engine::format::Entry;
use crate::engine::format::check::Access;
use crate::engine::format::superblock::{Layer, LayerState, Superblock};

/// Why the layers are as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDone {
    /// Its journal is not empty: it has to be opened and closed first.
    NotClosed,
    /// It has features that this program must not write.
    ReadOnly,
    /// There are as many layers as there can be.
    TooMany,
    /// Nothing is below the active layer but the base.
    Lowest,
    /// Other layers stand on the one below.
    InUse,
    /// The medium's; the layers are as they were, or as they were to be.
    Failed(Failure),
}

/// Seal the active layer and begin an empty one on it. `description` is the new one's.
///
/// # Errors
/// Why not; the cowfile reads as before.
pub fn begin(
    medium: &mut impl MediumMut,
    found: &Recovered,
    description: Vec<u8>,
) -> Result<Superblock, NotDone> {
    let mut superblock = closed(found)?;
    let below = superblock.active_layer;
    let free = superblock.layers.iter().position(Option::is_none);
    let number = free.and_then(|number| u8::try_from(number).ok());
    let number = number.ok_or(NotDone::TooMany)?;
    for (at, layer) in (0..).zip(&mut superblock.layers) {
        match layer {
            Some(layer) if at == below => layer.state = LayerState::Sealed,
            None if at == number => {
                *layer = Some(Layer {
                    root: Entry::ABSENT,
                    state: LayerState::Active,
                    parent: Some(below),
                });
            }
            _ => {}
        }
    }
    superblock.active_layer = number;
    superblock.description = description;
    flip(medium, superblock, found.standing)
}

/// Drop the active layer with all that was written to it; the one below is written to again.
///
/// # Errors
/// Why not; the cowfile reads as before.
pub fn roll_back(
    medium: &mut impl MediumMut,
    found: &Recovered,
    description: Vec<u8>,
) -> Result<Superblock, NotDone> {
    let mut superblock = closed(found)?;
    let dropped = superblock.active_layer;
    let below = superblock.stack().get(1).map(|(number, _)| *number);
    let below = below.ok_or(NotDone::Lowest)?;
    let stands_on_it = |layer: &Option<Layer>| layer.is_some_and(|l| l.parent == Some(below));
    let others = superblock.layers.iter().filter(|layer| stands_on_it(layer));
    if others.count() > 1 {
        return Err(NotDone::InUse);
    }
    for (at, layer) in (0..).zip(&mut superblock.layers) {
        if at == dropped {
            *layer = None;
        } else if let Some(layer) = layer.as_mut().filter(|_| at == below) {
            layer.state = LayerState::Active;
        }
    }
    superblock.active_layer = below;
    superblock.description = description;
    flip(medium, superblock, found.standing)
}

fn closed(found: &Recovered) -> Result<Superblock, NotDone> {
    if found.access != Access::ReadWrite {
        return Err(NotDone::ReadOnly);
    }
    match found.superblock.clean && found.delta.is_empty() && !found.torn {
        true => Ok(found.superblock.clone()),
        false => Err(NotDone::NotClosed),
    }
}

/// Both copies, the older one first, each durable before the next. What was found is made durable before, for it
/// may be in no more than a cache, and a copy that is not whole is erased (`Standing::Torn`).
pub(super) fn flip(
    medium: &mut impl MediumMut,
    mut superblock: Superblock,
    standing: Standing,
) -> Result<Superblock, NotDone> {
    medium.sync().map_err(NotDone::Failed)?;
    superblock.generation += 1;
    if standing == Standing::Torn {
        erase_superblock(medium, &superblock).map_err(NotDone::Failed)?;
    }
    write_superblock(medium, &superblock).map_err(NotDone::Failed)?;
    superblock.generation += 1;
    write_superblock(medium, &superblock).map_err(NotDone::Failed)?;
    Ok(superblock)
}
