//! Which superblock counts, and how far it can be relied on.

use super::recover::Medium;
use super::trouble::Trouble;
use crate::engine::format::Shape;
use crate::engine::format::check::{self, Found, Refusal};
use crate::engine::format::superblock::{self, HEAD_LEN, Superblock};

/// How the two superblocks stand, on the medium and not only in its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Both are durable and say the same.
    Durable,
    /// Both say the same, perhaps in no more than a cache: below it there may be an older one, whose slots
    /// are in use until a sync.
    Cached,
    /// One says, or may say below a cache that will never be written, anything else: its slots are in use
    /// until it is written again.
    Doubtful,
    /// One is not whole, perhaps for the power went while it was written. It is erased before it is written
    /// again: what was to be there then and what is written now, both torn, could add up to the former.
    Torn,
}

/// The valid superblock of the highest generation, which is at most `durable`: what a process wrote
/// that died, and did not see it become durable, may be in no more than a cache. And how both stand.
pub(super) fn find_superblock(
    medium: &mut impl Medium,
    shape: Shape,
    durable: Option<u64>,
) -> Result<(Superblock, Standing), Trouble> {
    let (mut found, mut unreadable, mut magic) = (Vec::new(), None, false);
    for slot in superblock::slots(shape) {
        match read_superblock(medium, slot, shape) {
            Ok(superblock) => found.extend(superblock),
            Err(Trouble::NoSuperblock) => magic = true,
            Err(Trouble::Unreadable { .. }) => unreadable = Some(Trouble::Unreadable { slot }),
            // What this program does not know must not be passed over, whatever the other copy says.
            Err(refused) => return Err(refused),
        }
    }
    // Nor may a feature that only the older copy has: whoever wrote it knew why.
    for superblock in &found {
        if let Err(newer @ Refusal::Newer(_)) = check::check(superblock, shape) {
            return Err(Trouble::Refused(newer));
        }
    }
    let says = |superblock: &Superblock| {
        let Superblock {
            journal,
            layers,
            merge,
            ..
        } = *superblock;
        (journal, layers, merge)
    };
    let agree = match found.as_slice() {
        [one, other] => says(one) == says(other) && one.origin == other.origin,
        _ => false,
    };
    let is_known = |durable| {
        found
            .iter()
            .all(|found: &Superblock| found.generation <= durable)
    };
    let standing = match (agree, durable) {
        _ if found.len() < 2 => Standing::Torn,
        (true, None) => Standing::Cached,
        (true, Some(durable)) if is_known(durable) => Standing::Durable,
        _ => Standing::Doubtful,
    };
    let best = found
        .into_iter()
        .filter(|superblock| durable.is_none_or(|durable| superblock.generation <= durable))
        .max_by_key(|superblock| superblock.generation);
    match (best, unreadable, magic) {
        (Some(best), ..) => Ok((best, standing)),
        (None, Some(unreadable), _) => Err(unreadable),
        (None, None, true) => Err(Trouble::NoSuperblock),
        (None, None, false) => Err(Trouble::NotACowfile),
    }
}

/// The superblock at `slot`; `NoSuperblock` if there was one.
pub(super) fn read_superblock(
    medium: &mut impl Medium,
    slot: u32,
    shape: Shape,
) -> Result<Option<Superblock>, Trouble> {
    let unreadable = |_| Trouble::Unreadable { slot };
    if medium.slots() <= slot {
        return Ok(None);
    }
    let mut bytes = vec![0; HEAD_LEN];
    medium.read(slot, &mut bytes).map_err(unreadable)?;
    let Some(description_bytes) = superblock::description_bytes(&bytes) else {
        return Ok(None);
    };
    let most = (shape.zone_slots as usize) << shape.chunk_shift;
    bytes.resize((HEAD_LEN + description_bytes).min(most), 0);
    medium.read(slot, &mut bytes).map_err(unreadable)?;
    match check::look(&bytes, slot) {
        Found::Superblock(found) => Ok(Some(*found)),
        Found::OtherVersion(version) => Err(Trouble::OtherVersion(version)),
        Found::Newer(names) => Err(Trouble::Refused(Refusal::Newer(names))),
        Found::Damaged => Err(Trouble::NoSuperblock),
        Found::Nothing => Ok(None),
    }
}
