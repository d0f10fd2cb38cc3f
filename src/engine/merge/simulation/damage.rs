//! A session of which something does not read: all of it is told, whether it is found before a merge or in the middle.

use super::disk::{Handle, Which};
use super::{World, some_world};
use crate::engine::command::Failure;
use crate::engine::cowfile::offline::Offline;
use crate::engine::cowfile::recover::{Medium, Recovered};
use crate::engine::cowfile::slots;
use crate::engine::format::{Entry, Shape, page};
use crate::engine::merge::batch::Batches;
use crate::engine::merge::scrub::Lost;
use crate::engine::merge::{self, How, Media, Stopped};

/// How what is bad is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Unreadable,
    Flipped,
}

/// A cowfile of which some slots do not read, or with a bit flipped; and what was read of it.
struct Bad {
    cow: Handle,
    slots: Vec<u32>,
    kind: Damage,
    shape: Shape,
    read: Vec<u32>,
}

impl Bad {
    fn new(world: &World, kind: Damage, slots: Vec<u32>) -> Self {
        Self {
            cow: world.handle(Which::Cow),
            slots,
            kind,
            shape: world.shape,
            read: Vec::new(),
        }
    }

    fn whole(world: &World) -> Self {
        Self::new(world, Damage::Flipped, Vec::new())
    }
}

impl Medium for Bad {
    fn slots(&mut self) -> u32 {
        self.cow.slots()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        let shift = self.shape.chunk_shift;
        let count = u32::try_from(into.len() >> shift).unwrap();
        self.read.extend(slot..slot + count);
        let is_hit = |bad: &&u32| (slot..slot + count).contains(*bad);
        let hit: Vec<u32> = self.slots.iter().filter(is_hit).copied().collect();
        if self.kind == Damage::Unreadable && !hit.is_empty() {
            return Err(Failure::Io);
        }
        Medium::read(&mut self.cow, slot, into)?;
        for bad in hit {
            into[((bad - slot) as usize) << shift] ^= 1;
        }
        Ok(())
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
fn lost(world: &World, found: &Recovered, (kind, slots): (Damage, &[u32])) -> Vec<u64> {
    let mut bytes = vec![0; found.superblock.shape.chunk_len()];
    let chunks = 0..found.superblock.chunks();
    let fails = |chunk: &u64| {
        // Nothing read before is in its cache.
        let mut offline = Offline::new(found.clone());
        let mut bad = Bad::new(world, kind, slots.to_vec());
        offline.read(&mut bad, *chunk, &mut bytes).is_err()
    };
    chunks.filter(fails).collect()
}

/// What a scrub tells, and a copy in which that is met; which has not touched the base from there on, and has written nothing
/// that is wrong before.
fn told(world: &World, found: &Recovered, (kind, slots): (Damage, &[u32])) -> Vec<u64> {
    let mut bad = Bad::new(world, kind, slots.to_vec());
    let scrubbed = merge::scrub(&mut bad, found, how(found), &mut |_| {}).unwrap_err();
    let mut base = world.handle(Which::Base);
    merge::fit(&mut base, found).unwrap();
    let before = world.bytes(Which::Base);
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
    let (after, model) = (world.bytes(Which::Base), world.model.borrow());
    let whole = usize::try_from(stretches[0].0).unwrap() << found.superblock.shape.chunk_shift;
    for (at, byte) in after.iter().enumerate() {
        let is_merged = at < whole && *byte == model.device[at];
        assert!(*byte == before[at] || is_merged, "byte {at} of the base");
    }
    let chunks = stretches.iter().flat_map(|&(start, end)| start..end);
    chunks.collect()
}

#[test]
fn all_that_is_damaged_is_told_and_nothing_of_it_written() {
    let (mut several, mut in_journal) = (0, 0);
    for seed in 0..120 {
        let mut world = some_world(seed).unwrap();
        // Also as a power cut leaves it.
        let found = match seed % 2 {
            0 => world.settled().unwrap(),
            _ => world.open().unwrap(),
        };
        let kind = [Damage::Unreadable, Damage::Flipped][world.random.usize(0..2)];
        let mut whole = Bad::whole(&world);
        merge::scrub(&mut whole, &found, how(&found), &mut |_| {}).unwrap();
        let mut slots = whole.read;
        world.random.shuffle(&mut slots);
        slots.truncate(3);
        let wanted = lost(&world, &found, (kind, &slots));
        if wanted.is_empty() {
            // What lies between chunks is read with them, and not needed.
            let mut bad = Bad::new(&world, kind, slots);
            merge::scrub(&mut bad, &found, how(&found), &mut |_| {}).unwrap();
            continue;
        }
        let told = told(&world, &found, (kind, &slots));
        assert_eq!(wanted, told, "seed {seed}");
        several += u32::from(told.len() > 1);
        in_journal += u32::from(found.delta.iter().next().is_some());
    }
    assert!(several > 20 && in_journal > 5, "{several}, {in_journal}");
}

#[test]
fn a_medium_that_is_dying_is_not_read_to_its_end() {
    let mut world = some_world(1).unwrap();
    let entries = (100..5000).map(|slot| Entry { slot, crc: 0 });
    let slots = (100..5000).collect();
    let mut bad = Bad::new(&world, Damage::Unreadable, slots);
    let found = slots::read(&mut bad, world.shape, entries, None, (40, &mut |_| {}));
    assert_eq!((found.numbers.len(), found.unreadable), (40, 40));
    assert!(bad.read.len() < 400, "{}", bad.read.len());

    let found = world.settled().unwrap();
    let mut lost = Lost::default();
    lost.add(5, 6);
    lost.has_failed(1000);
    let mut whole = Bad::whole(&world);
    let mut batches = Batches::new(&found, how(&found));
    let ended = merge::scrub::rest(&mut batches, &mut whole, lost, &mut |_| {});
    let is_all = false;
    let stretches = vec![(5, 6)];
    assert_eq!(ended, Err(Stopped::Damaged { stretches, is_all }));
    assert!(whole.read.is_empty());
}

#[test]
fn what_reads_and_is_wrong_is_told_however_much_it_is() {
    let world = some_world(1).unwrap();
    let mut whole = Bad::whole(&world);
    let entries = (0..whole.slots()).map(|slot| Entry { slot, crc: 0 });
    let found = slots::read(&mut whole, world.shape, entries, None, (1, &mut |_| {}));
    assert!(
        found.numbers.len() > 1 && found.unreadable == 0,
        "{found:?}"
    );
}

/// A cowfile whose slots are full of their numbers.
struct Numbered;

impl Medium for Numbered {
    fn slots(&mut self) -> u32 {
        100
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        for (slot, chunk) in (slot..).zip(into.chunks_mut(Shape::PRODUCT.chunk_len())) {
            chunk.fill(u8::try_from(slot).unwrap());
        }
        Ok(())
    }
}

#[test]
fn chunks_are_where_they_belong_in_whatever_order_their_slots_are() {
    let (shape, len) = (Shape::PRODUCT, Shape::PRODUCT.chunk_len());
    for order in [
        [2, 4, 3, 5],
        [2, 3, 4, 5],
        [5, 4, 3, 2],
        [2, 3, 5, 4],
        [2, 9, 10, 90],
    ] {
        let chunks = order.map(|slot| vec![slot; len]);
        let entries = chunks.iter().map(|bytes| Entry {
            slot: bytes[0].into(),
            crc: page::checksum(bytes),
        });
        let mut into = vec![0; order.len() * len];
        let bad = slots::read(
            &mut Numbered,
            shape,
            entries,
            Some(&mut into),
            (9, &mut |_| {}),
        );
        assert_eq!(bad, slots::Bad::default(), "{order:?}");
        assert!(into == chunks.concat(), "{order:?}");
    }
}
