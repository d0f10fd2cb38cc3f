//! What was torn and what is written over it, both torn, could add up to what was to be there, which nobody was told
//! of. So a superblock that was torn is erased before it is written again; and what a torn epoch names is not written
//! before the journal that it was in is history.

use std::mem::offset_of;

use cowroot::engine::cowfile::delta::Change;
use cowroot::engine::cowfile::recover::recover;
use cowroot::engine::format::superblock::{self, ERASED, HEAD_LEN, RawSuperblock};

use super::image::Image;
use super::machine::{Machine, settings};
use super::sample::sample;

/// What of a head is written or not. Before the extents less than a sector, for few superblocks differ in two sectors
/// of these, and how they add up is the same.
fn units(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (before, extents) = head.split_at(offset_of!(RawSuperblock, free));
    before.chunks(32).chain(extents.chunks(512))
}

/// Open, write and flush: all that was written to superblocks' places, with the syncs between.
fn life(image: Image, random: u64) -> Vec<Option<(u32, Vec<u8>)>> {
    let mut machine = Machine::open(image, settings(8, 16, random)).unwrap();
    machine.write(3, &[77]).unwrap();
    machine.flush().unwrap();
    let places = superblock::slots(machine.image.shape);
    let is_superblock =
        |step: &Option<(u32, Vec<u8>)>| step.as_ref().is_none_or(|(slot, _)| places.contains(slot));
    machine.log.into_iter().filter(is_superblock).collect()
}

/// The head at `slot` in all ways in which a write of `bytes` over it can be torn, none and all among them.
fn torn(image: &Image, slot: u32, bytes: &[u8]) -> Vec<Image> {
    let before: [u8; HEAD_LEN] = image.get(slot, 0);
    let mut at = 0;
    let units = units(&before).zip(units(bytes)).map(|(old, new)| {
        at += old.len();
        (at - old.len(), old, new)
    });
    let differ: Vec<_> = units.filter(|(_, old, new)| old != new).collect();
    assert!(differ.len() < 12, "{} units differ", differ.len());
    let tear = |mask: u32| {
        let mut image = image.clone();
        for (bit, (at, _, new)) in differ.iter().enumerate() {
            if mask >> bit & 1 == 1 {
                image.put(slot, *at, new);
            }
        }
        image
    };
    (0..1 << differ.len()).map(tear).collect()
}

#[test]
fn a_torn_superblock_and_what_is_written_over_it_never_add_up_to_it() {
    let (mut torn_once, mut written_again) = (0, 0);
    let mut machine = Machine::open(sample(5).image, settings(2, 16, 9)).unwrap();
    for round in 0..12 {
        // Now and then the last superblock is a checkpoint's, and the other one has other roots.
        machine.write(round, &[80, 81, 82]).unwrap();
        machine.flush().unwrap();
        let whole = machine.image.clone();
        let first = life(whole.clone(), 1).into_iter().flatten().next();
        let (slot, lost) = first.expect("every open writes superblocks");
        for image in torn(&whole, slot, &lost[..HEAD_LEN]) {
            let now: [u8; HEAD_LEN] = image.get(slot, 0);
            if now != whole.get(slot, 0) && now != lost[..HEAD_LEN] {
                torn_once += 1;
                written_again += tear_again(image, slot, &lost[..HEAD_LEN]);
            }
        }
    }
    assert!(
        torn_once > 100 && written_again >= 2 * torn_once,
        "{torn_once}, {written_again}"
    );
}

/// The same writes again after a power cut that left a torn superblock; the first of them to its place torn, too,
/// up to the one that is a superblock: how many there were.
fn tear_again(mut image: Image, slot: u32, lost: &[u8]) -> usize {
    let (mut count, mut written) = (0, None::<Vec<u8>>);
    for step in life(image.clone(), 2) {
        let Some((at, bytes)) = step else {
            if let Some(bytes) = written.take() {
                image.put(slot, 0, &bytes);
            }
            continue;
        };
        assert_eq!(at, slot, "the one that is not whole comes first");
        let now: [u8; HEAD_LEN] = image.get(slot, 0);
        // The very same superblock again is what is meant to be there.
        let is_same = bytes.starts_with(lost);
        assert!(is_same || !adds_up(&now, &bytes, lost), "it can be back");
        count += 1;
        if bytes.iter().any(|&byte| byte != ERASED) {
            return count;
        }
        written = Some(bytes);
    }
    panic!("no superblock was written again");
}

/// Whether some of the units of `bytes` written over `now` make `lost`.
fn adds_up(now: &[u8], bytes: &[u8], lost: &[u8]) -> bool {
    let mut units = units(now).zip(units(bytes)).zip(units(lost));
    units.all(|((now, new), lost)| now == lost || new == lost)
}

#[test]
fn what_a_torn_epoch_names_is_not_written_before_it_is_history() {
    let mut torn_epochs = 0;
    for seed in 0..12 {
        let mut machine = Machine::open(sample(seed).image, settings(64, 16, seed)).unwrap();
        for round in 0..20 {
            machine.write(round, &[90, 91, 92]).unwrap();
            machine.flush().unwrap();
            torn_epochs += usize::from(tear_epoch(machine.image.clone(), round + 1));
        }
    }
    assert!(torn_epochs > 100, "{torn_epochs}");
}

/// Damage the last epoch's copy of a chunk, and open, write and flush: nothing that the epoch names may be written
/// until the second superblock of the new journal. Whether the epoch has such a copy.
fn tear_epoch(mut image: Image, chunk: u64) -> bool {
    let shape = image.shape;
    let found = recover(&mut image, shape, None).unwrap();
    let Some(Change::Put(entry)) = found.delta.get(chunk) else {
        return false;
    };
    image.flip(entry.slot, 7);
    let torn = recover(&mut image, shape, None).unwrap();
    assert!(torn.torn && torn.dropped.contains(&entry.slot));
    let mut next = Machine::open(image, settings(8, 16, 3)).unwrap();
    next.write(30, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    next.flush().unwrap();
    let places = superblock::slots(shape);
    let mut superblocks = 0;
    for (slot, bytes) in next.log.iter().flatten() {
        superblocks += usize::from(places.contains(slot));
        let slots = *slot..slot + u32::try_from(bytes.len() / shape.chunk_len()).unwrap();
        let hit = torn.dropped.iter().find(|slot| slots.contains(slot));
        assert!(hit.is_none() || superblocks >= 2, "it could be back");
    }
    true
}
