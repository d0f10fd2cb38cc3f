//! What whoever opens a cowfile has to know while a merge is under way.

use super::mutant::{self, Mutant};
use crate::engine::cowfile::offline::Offline;
use crate::engine::cowfile::recover::{Medium, Recovered};
use crate::engine::cowfile::trouble::Trouble;
use crate::engine::format::Entry;
use crate::engine::format::superblock::{MergeState, Superblock};
use crate::engine::units::CHUNK_BYTES;

/// Which of these chunks of the base, of 4 KiB each, the layers that are being merged cover.
///
/// # Errors
/// A page of the session does not read.
pub fn covered(
    medium: &mut impl Medium,
    found: &Recovered,
    chunks: &[u64],
) -> Result<Vec<u64>, Trouble> {
    let superblock = &found.superblock;
    let mut offline = Offline::from(found.clone(), superblock.merge.top);
    let shift = superblock.shape.chunk_shift;
    let mut covered = Vec::new();
    for &chunk in chunks {
        let (start, end) = (chunk * CHUNK_BYTES, (chunk + 1) * CHUNK_BYTES);
        let end = end.min(superblock.device_bytes);
        for own in start >> shift..end.div_ceil(superblock.shape.chunk_bytes()) {
            if offline.look_up(medium, own)? != Entry::ABSENT {
                covered.push(chunk);
                break;
            }
        }
    }
    Ok(covered)
}

/// Whether a session that is served now would write to a layer that is being merged: then a layer is begun on top.
#[must_use]
pub fn needs_layer(superblock: &Superblock) -> bool {
    let merge = superblock.merge;
    merge.state == MergeState::UnderWay
        && merge.top == superblock.active_layer
        && !mutant::is(Mutant::ServedInPlace)
}
