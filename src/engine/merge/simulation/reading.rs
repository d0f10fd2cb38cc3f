//! What a merge reads, and when: the session in the order of its slots, the base from its medium.

use super::disk::{Handle, Which};
use super::reads::describe;
use super::{World, some_world};
use crate::engine::command::Failure;
use crate::engine::cowfile::recover::Medium;
use crate::engine::format::superblock::Merge;
use crate::engine::merge::{self, BaseMut, How, Media, Stopped};

/// A cowfile that notes what is read of it, and what is asked for before.
struct Noted {
    cow: Handle,
    asked: Vec<(u32, u32)>,
    read: Vec<u32>,
}

impl Medium for Noted {
    fn slots(&mut self) -> u32 {
        self.cow.slots()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        self.read.push(slot);
        Medium::read(&mut self.cow, slot, into)
    }

    fn will_read(&mut self, slot: u32, count: u32) {
        self.asked.push((slot, count));
    }
}

/// A base whose medium keeps the first write only, and whose cache has all of them until it is forgotten.
struct Lossy {
    medium: Handle,
    cache: Vec<u8>,
    writes: u32,
    is_forgotten: Vec<bool>,
}

impl Lossy {
    fn new(world: &World) -> Self {
        let cache = world.bytes(Which::Base);
        Self {
            medium: world.handle(Which::Base),
            is_forgotten: vec![true; cache.len()],
            cache,
            writes: 0,
        }
    }

    fn range(offset: u64, len: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(offset).unwrap();
        start..start + len
    }
}

impl BaseMut for Lossy {
    fn size_bytes(&mut self) -> u64 {
        BaseMut::size_bytes(&mut self.medium)
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Failure> {
        BaseMut::read(&mut self.medium, offset, into)?;
        let range = Self::range(offset, into.len());
        for (byte, at) in into.iter_mut().zip(range) {
            if !self.is_forgotten[at] {
                *byte = self.cache[at];
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), Failure> {
        let range = Self::range(offset, from.len());
        self.cache[range.clone()].copy_from_slice(from);
        self.is_forgotten[range].fill(false);
        self.writes += 1;
        match self.writes {
            1 => BaseMut::write(&mut self.medium, offset, from),
            _ => Ok(()),
        }
    }

    fn zero(&mut self, offset: u64, len: u64) -> Result<(), Failure> {
        self.write(offset, &vec![0; usize::try_from(len).unwrap()])
    }

    fn resize(&mut self, size_bytes: u64) -> Result<(), Failure> {
        let size = usize::try_from(size_bytes).unwrap();
        self.cache.resize(size, 0);
        self.is_forgotten.resize(size, true);
        self.medium.resize(size_bytes)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        BaseMut::sync(&mut self.medium)
    }

    fn forget(&mut self, offset: u64, len: u64) {
        let range = Self::range(offset, usize::try_from(len).unwrap());
        self.is_forgotten[range].fill(true);
    }
}

#[test]
fn a_scrub_asks_for_a_session_ahead_and_in_the_order_of_its_slots() {
    let mut most = 0;
    for seed in 0..50 {
        let mut world = some_world(seed).unwrap();
        let found = world.settled().unwrap();
        let mut noted = Noted {
            cow: world.handle(Which::Cow),
            asked: Vec::new(),
            read: Vec::new(),
        };
        let how = How {
            top: found.superblock.active_layer,
            batch_chunks: 5,
            zeros: 1,
        };
        let mut told = 0;
        let totals = merge::scrub(&mut noted, &found, how, &mut |chunks| told += chunks).unwrap();
        let Noted { asked, read, .. } = noted;
        assert!(
            asked.is_sorted_by(|(one, count), (next, _)| one + count <= *next),
            "seed {seed}: {asked:?}"
        );
        // Besides there are the pages that say where they are.
        let read = read
            .into_iter()
            .filter(|slot| asked.iter().any(|(first, _)| first == slot));
        assert!(
            read.eq(asked.iter().map(|(first, _)| *first)),
            "seed {seed}"
        );
        assert_eq!(told, totals.data_chunks + totals.zero_chunks, "seed {seed}");
        most = most.max(totals.data_chunks);
    }
    assert!(most > 5, "more than a batch");
}

#[test]
fn a_base_that_keeps_writes_in_its_cache_only_is_found_out() {
    let mut found_out = 0;
    for seed in 0..50 {
        let mut world = some_world(seed).unwrap();
        let found = world.settled().unwrap();
        let top = found.superblock.active_layer;
        let mut cow = world.handle(Which::Cow);
        let mut base = Lossy::new(&world);
        let media: Media<'_, _, _, Handle> = Media {
            cow: &mut cow,
            base: &mut base,
            log: None,
        };
        let merge = Merge {
            top,
            ..Merge::default()
        };
        let mut describe = |base: &mut Lossy| Ok(describe(&base.cache));
        let ended = merge::run(media, found, (merge, 5), &mut describe, &mut |_| {});
        let (kept, wanted) = (world.bytes(Which::Base), base.cache);
        match kept == wanted {
            true => assert!(ended.is_ok(), "seed {seed}: {ended:?}"),
            false => {
                found_out += 1;
                assert!(
                    matches!(ended, Err(Stopped::Differs(_))),
                    "seed {seed}: {ended:?}"
                );
            }
        }
    }
    assert!(found_out > 10, "{found_out} of 50");
}
