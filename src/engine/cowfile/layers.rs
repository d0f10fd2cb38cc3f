//! Layers of a closed cowfile, changed by its superblocks alone: begun, sealed, dropped, and which one is written to.
//!
//! What only a dropped layer named is free at the next open, which looks what the trees name.

pub mod kept;
pub mod merging;

use super::create::{MediumMut, erase_superblock, write_superblock};
use super::found::Standing;
use super::recover::Recovered;
use crate::engine::command::Failure;
use crate::engine::format::Entry;
use crate::engine::format::check::{Access, check};
use crate::engine::format::superblock::{Layer, LayerState, Merge, Superblock};

/// What is to become of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// An empty layer on this one, which is sealed, or on the base; it takes the writes.
    Begin(Option<u8>),
    /// This layer, on which no other stands, takes the writes.
    Activate(u8),
    /// This one, on which no other stands and which does not take the writes, never will again.
    Seal(u8),
    /// This one, on which no other stands and which does not take the writes, goes with all that was written to it.
    Drop(u8),
    /// The one that takes the writes goes with all that was written to it; the one below takes them again. One that
    /// stands on the base becomes empty.
    RollBack,
    /// Nothing; what people know of them changes.
    Describe,
    /// Nothing; the next boot is to merge them into the base, or no longer.
    AskMerge(Option<Merge>),
}

/// Why the layers are as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDone {
    /// Its journal is not empty: it has to be opened and closed first.
    NotClosed,
    /// It has features that this program must not write.
    ReadOnly,
    /// There are as many layers as there can be.
    TooMany,
    /// There is no such layer.
    Absent,
    /// It takes the writes.
    Active,
    /// It never takes writes again.
    Sealed,
    /// It is in the base already, and kept for a while.
    Merged,
    /// It is being merged into the base, or the base is about to change.
    Merging,
    /// This layer stands on it, or on the one below it.
    InUse(u8),
    /// Nothing would open it any more: a mistake of ours. Nothing was written.
    Implausible,
    /// The medium's; the layers are as they were, or as they were to be.
    Failed(Failure),
}

/// What the superblock will say of the layers; its description is as it was.
///
/// # Errors
/// Why it cannot be.
pub fn planned(found: &Recovered, edit: Edit) -> Result<Superblock, NotDone> {
    if found.access != Access::ReadWrite {
        return Err(NotDone::ReadOnly);
    }
    if !found.superblock.clean || !found.delta.is_empty() || found.torn {
        return Err(NotDone::NotClosed);
    }
    let mut superblock = found.superblock.clone();
    edited(&mut superblock, edit)?;
    Ok(superblock)
}

/// Write what was planned, and described.
///
/// # Errors
/// The medium's; the cowfile reads as before, or as planned.
pub fn write(
    medium: &mut impl MediumMut,
    found: &Recovered,
    planned: Superblock,
) -> Result<Superblock, NotDone> {
    flip(medium, planned, found.standing)
}

/// Change what a superblock says of its layers.
pub(super) fn edited(superblock: &mut Superblock, edit: Edit) -> Result<(), NotDone> {
    let before = superblock.clone();
    apply(superblock, edit)?;
    merging::allows(&before, superblock)
}

fn apply(superblock: &mut Superblock, edit: Edit) -> Result<(), NotDone> {
    let active = superblock.active_layer;
    match edit {
        Edit::Describe => {}
        Edit::AskMerge(merge) => merging::asked(superblock, merge).map_err(NotDone::from)?,
        Edit::Begin(below) => {
            let free = superblock.layers.iter().position(Option::is_none);
            let number = free.and_then(|number| u8::try_from(number).ok());
            let number = number.ok_or(NotDone::TooMany)?;
            if let Some(below) = below {
                layer(superblock, below)?.state = LayerState::Sealed;
            }
            if let Some(place) = superblock.layers.get_mut(usize::from(number)) {
                *place = Some(Layer {
                    root: Entry::ABSENT,
                    state: LayerState::Active,
                    parent: below,
                });
            }
            superblock.active_layer = number;
        }
        Edit::Activate(number) => {
            top(superblock, number, None)?;
            if layer(superblock, number)?.state == LayerState::Sealed {
                return Err(NotDone::Sealed);
            }
            superblock.active_layer = number;
        }
        Edit::Seal(number) if number != active => {
            top(superblock, number, None)?;
            layer(superblock, number)?.state = LayerState::Sealed;
        }
        Edit::Drop(number) if number != active => {
            top(superblock, number, None)?;
            drop_layer(superblock, number);
        }
        Edit::Seal(_) | Edit::Drop(_) => return Err(NotDone::Active),
        Edit::RollBack => match layer(superblock, active)?.parent {
            None => layer(superblock, active)?.root = Entry::ABSENT,
            Some(below) => {
                top(superblock, below, Some(active))?;
                drop_layer(superblock, active);
                layer(superblock, below)?.state = LayerState::Active;
                superblock.active_layer = below;
            }
        },
    }
    Ok(())
}

fn layer(superblock: &mut Superblock, number: u8) -> Result<&mut Layer, NotDone> {
    let layer = superblock.layers.get_mut(usize::from(number));
    layer.and_then(Option::as_mut).ok_or(NotDone::Absent)
}

/// Nothing stands on it, but perhaps one.
fn top(superblock: &Superblock, number: u8, but: Option<u8>) -> Result<(), NotDone> {
    let mut others = (0..).zip(&superblock.layers).filter(|(other, layer)| {
        Some(*other) != but && layer.is_some_and(|layer| layer.parent == Some(number))
    });
    others
        .next()
        .map_or(Ok(()), |(other, _)| Err(NotDone::InUse(other)))
}

fn drop_layer(superblock: &mut Superblock, number: u8) {
    if let Some(place) = superblock.layers.get_mut(usize::from(number)) {
        *place = None;
    }
}

/// Both copies, the older one first, each durable before the next. What was found is made durable before, for it
/// may be in no more than a cache, and a copy that is not whole is erased (`Standing::Torn`).
pub(super) fn flip(
    medium: &mut impl MediumMut,
    mut superblock: Superblock,
    standing: Standing,
) -> Result<Superblock, NotDone> {
    check(&superblock, superblock.shape).map_err(|_| NotDone::Implausible)?;
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
