//! A session of which something does not read: all of it is told, whether it is found before a merge or in the middle.

use super::disk::{Handle, Which};
use super::{World, some_world};
use crate::engine::command::Failure;
use crate::engine::cowfile::offline::Offline;
use crate::engine::cowfile::recover::{Medium, Recovered};
use crate::engine::format::{Entry, Shape};
use crate::engine::merge::{self, How, Media, Stopped, slots};

/// A cowfile of which some slots do not read, and what was read of it.
struct Bad {
    cow: Handle,
    slots: Vec<u32>,
    shape: Shape,
    read: Vec<u32>,
}

impl Bad {
    fn new(world: &World, slots: Vec<u32>) -> Self {
        Self {
            cow: world.handle(Which::Cow),
            slots,
            shape: world.shape,
            read: Vec::new(),
        }
    }
}

impl Medium for Bad {
    fn slots(&mut self) -> u32 {
        self.cow.slots()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        let count = u32::try_from(into.len() >> self.shape.chunk_shift).unwrap();
        self.read.extend(slot..slot + count);
        match self
            .slots
            .iter()
            .any(|bad| (slot..slot + count).contains(bad))
        {
            true => Err(Failure::Io),
            false => Medium::read(&mut self.cow, slot, into),
        }
    }
}

fn how(found: &Recovered) -> How {
    How {
        top: found.superblock.active_layer,
        batch_chunks: 3,
        zeros: 1,
    }
}

/// The chunks of which it cannot be told what they are.
fn unreadable(world: &World, found: &Recovered, slots: &[u32]) -> Vec<u64> {
    let mut bytes = vec![0; found.superblock.shape.chunk_len()];
    let chunks = 0..found.superblock.chunks();
    let fails = |chunk: &u64| {
        // Nothing read before is in its cache.
        let mut offline = Offline::new(found.clone());
        let mut bad = Bad::new(world, slots.to_vec());
        offline.read(&mut bad, *chunk, &mut bytes).is_err()
    };
    chunks.filter(fails).collect()
}

/// Both told the same: the scrub, and a copy that something was damaged before but not when it was scrubbed.
fn told(world: &World, found: &Recovered, slots: &[u32]) -> Vec<u64> {
    let mut bad = Bad::new(world, slots.to_vec());
    let scrubbed = merge::scrub(&mut bad, found, how(found), &mut |_| {}).unwrap_err();
    let mut base = world.handle(Which::Base);
    merge::fit(&mut base, found).unwrap();
    let mut media: Media<'_, _, _, Handle> = Media {
        cow: &mut bad,
        base: &mut base,
        log: None,
    };
    let copied = merge::copy(&mut media, found, (how(found), false), &mut |_| {}).unwrap_err();
    assert_eq!(scrubbed, copied);
    let Stopped::Damaged { stretches, is_all } = scrubbed else {
        panic!("{scrubbed:?}");
    };
    assert!(is_all);
    assert!(
        stretches.is_sorted_by(|one, next| one.1 < next.0),
        "{stretches:?}"
    );
    stretches
        .iter()
        .flat_map(|&(start, end)| start..end)
        .collect()
}

#[test]
fn all_that_is_damaged_is_told() {
    let (mut several, mut of_one_layer) = (0, 0);
    for seed in 0..60 {
        let mut world = some_world(seed).unwrap();
        let found = world.settled().unwrap();
        let mut whole = Bad::new(&world, Vec::new());
        merge::scrub(&mut whole, &found, how(&found), &mut |_| {}).unwrap();
        let mut slots = whole.read;
        world.random.shuffle(&mut slots);
        slots.truncate(3);
        let wanted = unreadable(&world, &found, &slots);
        if wanted.is_empty() {
            // What lies between chunks is read with them, and not needed.
            let mut bad = Bad::new(&world, slots);
            merge::scrub(&mut bad, &found, how(&found), &mut |_| {}).unwrap();
            continue;
        }
        let told = told(&world, &found, &slots);
        assert!(
            wanted.iter().all(|chunk| told.contains(chunk)),
            "seed {seed}: {wanted:?} not all in {told:?}"
        );
        if found.superblock.stack().len() == 1 {
            assert_eq!(wanted, told, "seed {seed}: nothing is below");
            of_one_layer += 1;
        }
        several += u32::from(told.len() > 1);
    }
    assert!(several > 5 && of_one_layer > 5, "{several}, {of_one_layer}");
}

#[test]
fn a_medium_that_is_dying_is_not_read_to_its_end() {
    let world = some_world(1).unwrap();
    let entries = (100..5000).map(|slot| Entry { slot, crc: 0 });
    let mut bad = Bad::new(&world, (100..5000).collect());
    let lost = slots::read(&mut bad, world.shape, entries, None, (40, &mut |_| {}));
    assert_eq!(lost.len(), 40);
    assert!(bad.read.len() < 400, "{}", bad.read.len());
}
