//! What superblocks say of a merge into the base: asked for, begun, over, taken back. `merge` does the copying.
//!
//! Each is one flip, as those of `layers`. While a merge is under way the merged layers are not written: whoever
//! serves the cowfile begins one on top first.

use super::kept::{drop_kept, kept_top};
use super::{NotDone, flip};
use crate::engine::cowfile::create::MediumMut;
use crate::engine::cowfile::recover::Recovered;
use crate::engine::format::Entry;
use crate::engine::format::check::Access;
use crate::engine::format::superblock::{
    Layer, LayerState, MAX_LAYERS, MERGING, Merge, MergeState, Superblock,
};

/// Why layers are not merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotMerged {
    /// It is not closed, or must not be written; or the medium's.
    Cowfile(NotDone),
    /// This layer is not in the stack.
    NotInStack(u8),
    /// These layers stand on what would change, and are not in the stack above it.
    Depend(Vec<u8>),
    /// Another merge is under way, up to this layer.
    Other(u8),
    /// Nothing to take back: none is under way, and what was merged was not kept.
    NothingKept,
}

/// The layers that are merged when `top` is: it and those below it, from the top.
#[must_use]
pub fn merged_with(superblock: &Superblock, top: u8) -> Vec<u8> {
    let numbers = superblock.stack().into_iter().map(|(number, _)| number);
    numbers.skip_while(|number| *number != top).collect()
}

/// Whether layers up to `top` may be merged.
///
/// # Errors
/// Why not.
pub fn may(superblock: &Superblock, top: u8) -> Result<(), NotMerged> {
    let merge = superblock.merge;
    if merge.state == MergeState::UnderWay && merge.top != top {
        return Err(NotMerged::Other(merge.top));
    }
    let merged = merged_with(superblock, top);
    if merged.is_empty() {
        return Err(NotMerged::NotInStack(top));
    }
    // Down from a layer, what was merged before not counted.
    let stands_on_top = |number: u8| {
        let mut below = Some(number);
        for _ in 0..MAX_LAYERS {
            match below {
                Some(number) if number == top => return true,
                Some(number) => below = superblock.layer(number).and_then(|layer| layer.parent),
                None => return false,
            }
        }
        false
    };
    let numbers = (0..).zip(&superblock.layers);
    let others = numbers.filter(|(number, layer)| {
        layer.is_some() && !merge.keeps(*number) && !merged.contains(number)
    });
    let depend: Vec<u8> = others
        .map(|(number, _)| number)
        .filter(|number| !stands_on_top(*number))
        .collect();
    if !depend.is_empty() {
        return Err(NotMerged::Depend(depend));
    }
    // What is written while it is not over needs a layer on top; what is kept of a merge before gives way.
    let is_in_use = |(number, layer): (u8, &Option<Layer>)| layer.is_some() && !merge.keeps(number);
    let is_full = (0..).zip(&superblock.layers).all(is_in_use);
    let is_begun = merge.state == MergeState::UnderWay;
    match is_full && !is_begun && top == superblock.active_layer {
        true => Err(NotMerged::Cowfile(NotDone::TooMany)),
        false => Ok(()),
    }
}

/// Whether layers may be changed so, for all that a merge has begun or has kept. Of what is kept nothing is named that is
/// gone.
pub(super) fn allows(before: &Superblock, after: &mut Superblock) -> Result<(), NotDone> {
    let numbers = (0..).zip(&after.layers);
    let kept: Vec<u8> = numbers
        .filter(|(number, layer)| before.merge.keeps(*number) && layer.is_some())
        .map(|(number, _)| number)
        .collect();
    if kept.len() < before.merge.kept.count_ones() as usize {
        // The rest makes no sense without it.
        drop_kept(after);
    }
    // A number may be given again.
    let top = usize::from(before.merge.top);
    if before.merge.state == MergeState::Asked && after.layers.get(top) == Some(&None) {
        after.merge.state = MergeState::None;
    }
    let merge = after.merge;
    let is_kept = |number: u8| merge.keeps(number);
    let mut others = (0..)
        .zip(&after.layers)
        .filter_map(|(number, layer)| Some((number, (*layer)?)))
        .filter(|(number, _)| !is_kept(*number));
    if is_kept(after.active_layer) || others.any(|(_, layer)| layer.parent.is_some_and(is_kept)) {
        return Err(NotDone::Merged);
    }
    if before.merge.state != MergeState::UnderWay {
        return Ok(());
    }
    let merged = merged_with(before, before.merge.top);
    let says = |superblock: &Superblock, number: u8| {
        let layer = superblock.layer(number);
        layer.map(|layer| (layer.root, layer.parent))
    };
    let is_same = merged
        .iter()
        .all(|number| says(before, *number) == says(after, *number));
    let is_sealed =
        !merged.contains(&after.active_layer) || before.active_layer == after.active_layer;
    match is_same && is_sealed && may(after, before.merge.top).is_ok() {
        true => Ok(()),
        false => Err(NotDone::Merging),
    }
}

/// Let the next boot merge, or no longer.
///
/// # Errors
/// Why the cowfile is as it was.
pub fn ask(
    medium: &mut impl MediumMut,
    found: &Recovered,
    merge: Option<Merge>,
    description: Vec<u8>,
) -> Result<Superblock, NotMerged> {
    let mut superblock = writable(found)?;
    asked(&mut superblock, merge)?;
    superblock.description = description;
    flip(medium, superblock, found.standing).map_err(NotMerged::Cowfile)
}

/// What a superblock says then.
pub(super) fn asked(superblock: &mut Superblock, merge: Option<Merge>) -> Result<(), NotMerged> {
    if superblock.merge.state == MergeState::UnderWay {
        return Err(NotMerged::Other(superblock.merge.top));
    }
    if let Some(Merge { top, .. }) = merge {
        may(superblock, top)?;
    }
    superblock.merge = match merge {
        Some(merge) => Merge {
            state: MergeState::Asked,
            ..carried(merge, superblock.merge)
        },
        None => Merge {
            state: MergeState::None,
            ..superblock.merge
        },
    };
    Ok(())
}

impl From<NotMerged> for NotDone {
    fn from(why: NotMerged) -> Self {
        match why {
            NotMerged::Cowfile(why) => why,
            NotMerged::NotInStack(_) | NotMerged::NothingKept => Self::Absent,
            NotMerged::Depend(numbers) => numbers
                .first()
                .map_or(Self::Absent, |number| Self::InUse(*number)),
            NotMerged::Other(_) => Self::Merging,
        }
    }
}

/// What is kept of a merge before goes on being kept.
fn carried(merge: Merge, before: Merge) -> Merge {
    let asked = Merge {
        served: before.served,
        kept: before.kept,
        ..merge
    };
    match before.kept {
        0 => asked,
        // An undo log knows it by that.
        _ => Merge {
            id: before.id,
            is_logged: before.is_logged,
            ..asked
        },
    }
}

/// From now on any part of the layers up to `merge.top` may be in the base. What was kept of a merge before is
/// dropped: the base is about to change. One that was begun goes on, with or without its undo log as `merge` says.
///
/// # Errors
/// Why the cowfile is as it was, or the medium's.
pub fn begin(
    medium: &mut impl MediumMut,
    found: &Recovered,
    merge: Merge,
) -> Result<Superblock, NotMerged> {
    let mut superblock = writable(found)?;
    may(&superblock, merge.top)?;
    if superblock.merge.state == MergeState::UnderWay {
        // Which log it goes on with, if with any.
        superblock.merge.is_logged = merge.is_logged;
        superblock.merge.id = merge.id;
        // Both copies have to say so, and durably, before the base is written.
        return flip(medium, superblock, found.standing).map_err(NotMerged::Cowfile);
    }
    drop_kept(&mut superblock);
    superblock.features.ro_compat |= MERGING;
    superblock.merge = Merge {
        state: MergeState::UnderWay,
        served: false,
        kept: 0,
        ..merge
    };
    flip(medium, superblock, found.standing).map_err(NotMerged::Cowfile)
}

/// The base has it all, durably, and is what `description` says. The merged layers are kept or dropped; what stood
/// on them stands on the base.
///
/// # Errors
/// The merge is still under way then, or over.
pub fn finish(
    medium: &mut impl MediumMut,
    found: &Recovered,
    base_bytes: u64,
    description: Vec<u8>,
) -> Result<Superblock, NotMerged> {
    let mut superblock = writable(found)?;
    let merge = superblock.merge;
    let merged = merged_with(&superblock, merge.top);
    let fresh = fresh_number(&superblock, merge.frees);
    let is_active_merged = merged.contains(&superblock.active_layer);
    if is_active_merged && fresh.is_none() {
        return Err(NotMerged::Cowfile(NotDone::TooMany));
    }
    for layer in superblock.layers.iter_mut().flatten() {
        if layer.parent == Some(merge.top) {
            layer.parent = None;
        }
    }
    let mut kept = 0;
    for (number, place) in (0..).zip(&mut superblock.layers) {
        if !merged.contains(&number) {
            continue;
        }
        match (place.as_mut(), merge.frees) {
            (Some(layer), false) => {
                layer.state = LayerState::Sealed;
                kept |= 1_u64 << number;
            }
            _ => *place = None,
        }
    }
    if let Some(fresh) = fresh.filter(|_| is_active_merged) {
        if let Some(place) = superblock.layers.get_mut(usize::from(fresh)) {
            *place = Some(Layer {
                root: Entry::ABSENT,
                state: LayerState::Active,
                parent: None,
            });
        }
        superblock.active_layer = fresh;
    }
    superblock.base_bytes = base_bytes;
    superblock.description = description;
    superblock.features.ro_compat &= !MERGING;
    superblock.merge = Merge {
        state: MergeState::None,
        kept,
        served: false,
        ..merge
    };
    flip(medium, superblock, found.standing).map_err(NotMerged::Cowfile)
}

/// The number that the empty layer gets when all are merged; the active one's own, if it is dropped.
#[must_use]
pub fn fresh_number(superblock: &Superblock, frees: bool) -> Option<u8> {
    if frees {
        return Some(superblock.active_layer);
    }
    let free = superblock.layers.iter().position(Option::is_none);
    free.and_then(|number| u8::try_from(number).ok())
}

/// Let what was merged lie below what came later again, as while the merge was under way: the base may then be what
/// it was before, or any part of it. `description` says what it was.
///
/// # Errors
/// Why the cowfile is as it was.
pub fn begin_undo(
    medium: &mut impl MediumMut,
    found: &Recovered,
    base_bytes: u64,
    description: Vec<u8>,
) -> Result<Superblock, NotMerged> {
    let mut superblock = writable(found)?;
    let mut merge = superblock.merge;
    if merge.state != MergeState::UnderWay {
        let top = kept_top(&superblock).ok_or(NotMerged::NothingKept)?;
        // What was asked for since may have named others.
        (merge.top, merge.frees, merge.served) = (top, false, false);
        for (number, place) in (0..).zip(&mut superblock.layers) {
            if let Some(layer) = place
                && layer.parent.is_none()
                && !merge.keeps(number)
            {
                layer.parent = Some(top);
            }
        }
    }
    superblock.base_bytes = base_bytes;
    superblock.description = description;
    superblock.features.ro_compat |= MERGING;
    superblock.merge = Merge {
        state: MergeState::UnderWay,
        kept: 0,
        ..merge
    };
    flip(medium, superblock, found.standing).map_err(NotMerged::Cowfile)
}

/// The base is what it was before the merge, durably.
///
/// # Errors
/// The merge is still under way then, or taken back.
pub fn finish_undo(
    medium: &mut impl MediumMut,
    found: &Recovered,
) -> Result<Superblock, NotMerged> {
    let mut superblock = writable(found)?;
    superblock.features.ro_compat &= !MERGING;
    superblock.merge = Merge::default();
    flip(medium, superblock, found.standing).map_err(NotMerged::Cowfile)
}

/// What was kept of a merge: dropped, if a session above it was served since; else it is noted that one is now.
/// `None` if there is nothing to do. For whoever serves the cowfile next, before anything is written.
#[must_use]
pub fn aged(superblock: &Superblock) -> Option<Superblock> {
    let mut superblock = superblock.clone();
    if superblock.merge.kept == 0 {
        return None;
    }
    match superblock.merge.served {
        true => drop_kept(&mut superblock),
        false => superblock.merge.served = true,
    }
    Some(superblock)
}

/// Write what `aged` says.
///
/// # Errors
/// Why the cowfile is as it was.
pub fn age(
    medium: &mut impl MediumMut,
    found: &Recovered,
    superblock: Superblock,
) -> Result<Superblock, NotMerged> {
    writable(found)?;
    flip(medium, superblock, found.standing).map_err(NotMerged::Cowfile)
}

fn is_closed(found: &Recovered) -> bool {
    found.superblock.clean && found.delta.is_empty() && !found.torn
}

fn writable(found: &Recovered) -> Result<Superblock, NotMerged> {
    match (&found.access, is_closed(found)) {
        (Access::ReadOnly(_), _) => Err(NotMerged::Cowfile(NotDone::ReadOnly)),
        (_, false) => Err(NotMerged::Cowfile(NotDone::NotClosed)),
        _ => Ok(found.superblock.clone()),
    }
}
