//! Layers that are in the base already, and kept for a while.

use super::merging::merged_with;
use crate::engine::format::superblock::{Layer, MergeState, Superblock};

/// The layers that a merge has put into the base are no longer needed. Their slots are free at the next open.
pub(super) fn drop_kept(superblock: &mut Superblock) {
    let kept = superblock.merge;
    for (number, place) in (0..).zip(&mut superblock.layers) {
        if kept.keeps(number) {
            *place = None;
        }
    }
    superblock.merge.kept = 0;
    superblock.merge.served = false;
}

/// The uppermost of the layers that are kept.
#[must_use]
pub fn kept_top(superblock: &Superblock) -> Option<u8> {
    let merge = superblock.merge;
    let numbers = (0..).zip(&superblock.layers);
    let kept = numbers.filter_map(|(number, layer)| Some((number, (*layer)?)));
    let kept: Vec<(u8, Layer)> = kept.filter(|(number, _)| merge.keeps(*number)).collect();
    let stands_on = |number: u8| kept.iter().any(|(_, layer)| layer.parent == Some(number));
    let mut tops = kept.iter().map(|(number, _)| *number);
    tops.find(|number| !stands_on(*number))
}

/// Whether what is read through a layer is a mixture: it is below one that is being merged, or was and is kept, and the
/// base may have that one's.
#[must_use]
pub fn is_mixed(superblock: &Superblock, number: u8) -> bool {
    let merge = superblock.merge;
    let is_below = match merge.state {
        MergeState::UnderWay => merged_with(superblock, merge.top).contains(&number),
        _ => false,
    };
    is_below && number != merge.top || merge.keeps(number) && kept_top(superblock) != Some(number)
}
