//! Check finds what is damaged and repair makes it whole, without a change to what was.

use std::mem::offset_of;

use cowroot::engine::command::Failure;
use cowroot::engine::cowfile::check::{Depth, Report, check};
use cowroot::engine::cowfile::create::MediumMut;
use cowroot::engine::cowfile::recover::Medium;
use cowroot::engine::cowfile::repair::{NotRepaired, Wishes, plan};
use cowroot::engine::cowfile::trouble::Trouble;
use cowroot::engine::format::page;
use cowroot::engine::format::superblock::{self, HEAD_LEN};
use cowroot::engine::format::tree::{RawEntry, TreeHead};

use super::golden::stored;
use super::image::Image;
use super::opening::{self, Read};
use super::repair::repair as seal;
use super::sample::{DESCRIPTION, Map, Sample, not_read};

const SEED: u64 = 7;

/// A sample whose siblings have their headers, which a machine's growth leaves out.
fn sample(seed: u64) -> Sample {
    let mut sample = super::sample::sample(seed);
    let superblock = Map::of(&sample.image).found.superblock;
    let len = sample.image.shape.chunk_len();
    for number in 1..superblock.grown_slots.div_ceil(superblock.file_slots) {
        let slot = number * superblock.file_slots;
        let header = page::sibling(superblock.origin, number, slot, len);
        sample.image.put(slot, 0, &header);
    }
    sample
}

fn look(image: &mut Image) -> Result<Report, Trouble> {
    let shape = image.shape;
    check(image, shape, Depth::Everything, &mut |_| {})
}

fn mend(image: &mut Image, drop_damaged: bool) -> Result<(), NotRepaired> {
    let report = look(image).unwrap();
    let wishes = Wishes {
        drop_damaged,
        incarnation: 0x2222,
        description: DESCRIPTION.to_vec(),
    };
    plan(image, &report, wishes)?.run(image)
}

fn reads(image: &mut Image) -> Vec<(u64, Read)> {
    opening::offline(image).unwrap().1
}

/// Repair may change nothing that read, and leaves nothing to find.
fn mends(image: &Image, drop_damaged: bool) -> Image {
    let mut image = image.clone();
    let before = opening::offline(&mut image).map(|(_, reads)| reads);
    mend(&mut image, drop_damaged).unwrap();
    let report = look(&mut image).unwrap();
    assert!(report.is_clean() && report.census.adds_up(), "{report:?}");
    let after = reads(&mut image);
    for ((chunk, before), (_, after)) in before.iter().flatten().zip(&after) {
        assert!(before.is_err() || before == after, "chunk {chunk}");
    }
    image
}

#[test]
fn whole_cowfiles_check_clean_and_every_slot_is_somewhere() {
    for seed in 0..20 {
        let mut image = sample(seed).image;
        let report = look(&mut image).unwrap();
        assert!(report.is_clean(), "seed {seed}: {report:?}");
        assert!(report.census.adds_up(), "seed {seed}: {:?}", report.census);
        mends(&image, false);
    }
    for name in ["empty", "clean", "in-use", "torn"] {
        let report = look(&mut stored(name)).unwrap();
        assert!(report.is_clean() && report.census.adds_up(), "{name}");
    }
}

#[test]
fn a_flipped_bit_is_told_or_changes_nothing() {
    let Sample {
        mut image,
        epochs,
        last,
    } = sample(SEED);
    let bits = image.shape.chunk_len() * 8;
    let slots: Vec<u32> = image.pages.keys().copied().collect();
    let map = Map::of(&image);
    let durable = map.found.superblock.durable_seq;
    let behind = map.journal.iter().filter(|page| page.seq > durable);
    let behind: Vec<u32> = behind.map(|page| page.slot).collect();
    let (mut told, mut harmless) = (0, 0);
    for slot in slots {
        for bit in (0..bits).step_by(7) {
            image.flip(slot, bit);
            match look(&mut image) {
                // What looks like a commit that was cut off, or never begun, is not damage: nothing tells them
                // apart (docs/format.md, Damage).
                Ok(report) if report.is_clean() && !report.found.torn => {
                    let reads = reads(&mut image);
                    let epoch = report.found.epoch;
                    assert!(not_read(&reads, &epochs[&epoch]).is_empty(), "{slot} {bit}");
                    assert!(epoch == last || behind.contains(&slot), "{slot} {bit}");
                    harmless += 1;
                }
                _ => told += 1,
            }
            image.flip(slot, bit);
        }
    }
    println!("{told} told, {harmless} harmless");
    assert!(told > 1000 && harmless > 0);
}

#[test]
fn each_kind_of_damage_is_told_and_mended() {
    let Sample { image, .. } = sample(SEED);
    let map = Map::of(&image);
    for slot in superblock::slots(image.shape) {
        for bit in [40, HEAD_LEN * 8 + 3] {
            let mut image = image.clone();
            let page = u32::try_from(bit / 8 / image.shape.chunk_len()).unwrap();
            image.flip(slot + page, bit % (image.shape.chunk_len() * 8));
            let report = look(&mut image).unwrap();
            assert_eq!(report.superblock, Some(slot));
            assert!(!report.loses());
            mends(&image, false);
        }
    }
    let chunk = map.chunks.keys().copied();
    let trees = map.trees.iter().map(|tree| tree.0);
    let (mut lost, mut dropped) = (0, 0);
    for slot in chunk.chain(trees) {
        let mut image = image.clone();
        image.flip(slot, 1000);
        let report = look(&mut image).unwrap();
        if report.found.torn {
            continue;
        }
        assert!(report.loses(), "slot {slot}");
        lost += 1;
        // What is lost stays an error until somebody says that it may go.
        let before = reads(&mut image);
        let mut kept = image.clone();
        mend(&mut kept, false).unwrap();
        let after = reads(&mut kept);
        let failed = |reads: &[(u64, Read)]| reads.iter().filter(|(_, read)| read.is_err()).count();
        assert_eq!(failed(&before), failed(&after), "slot {slot}");
        assert!(look(&mut kept).unwrap().loses());
        let mut image = mends(&image, true);
        assert_eq!(failed(&reads(&mut image)), 0);
        dropped += failed(&before);
    }
    println!("{lost} slots damaged, {dropped} chunks dropped");
    assert!(lost > 20 && dropped > 20);
}

#[test]
fn a_damaged_page_of_the_journal_is_cut_only_when_that_may_be() {
    let Sample { image, .. } = sample(SEED);
    let map = Map::of(&image);
    let mut cut = 0;
    for page in &map.journal {
        if page.seq <= map.found.superblock.durable_seq {
            let mut image = image.clone();
            image.flip(page.slot, 1000);
            let report = look(&mut image).unwrap();
            assert!(report.cut.as_ref().is_some_and(|cut| cut.acknowledged));
            assert_eq!(mend(&mut image, false), Err(NotRepaired::WouldLose));
            mends(&image, true);
            cut += 1;
        }
    }
    assert!(cut > 0);
}

/// A slot that does not read.
struct Bad<'a>(&'a mut Image, u32);

impl Medium for Bad<'_> {
    fn slots(&mut self) -> u32 {
        self.0.slots()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        let end = slot + u32::try_from(into.len().div_ceil(self.0.shape.chunk_len())).unwrap();
        match (slot..end).contains(&self.1) {
            true => Err(Failure::Io),
            false => self.0.read(slot, into),
        }
    }
}

impl MediumMut for Bad<'_> {
    fn write(&mut self, slot: u32, from: &[u8]) -> Result<(), Failure> {
        self.0.write(slot, from)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

#[test]
fn a_last_epoch_that_does_not_read_is_cut_off() {
    let Sample {
        mut image,
        epochs,
        last,
    } = sample(SEED);
    let page = *Map::of(&image).journal.last().unwrap();
    let shape = image.shape;
    let mut bad = Bad(&mut image, page.slot);
    let report = check(&mut bad, shape, Depth::Everything, &mut |_| {}).unwrap();
    let cut = report.cut.clone().unwrap();
    assert_eq!(cut.trouble, Trouble::Unreadable { slot: page.slot });
    assert!(!cut.acknowledged && report.found.epoch == last - 1);
    let wishes = Wishes {
        drop_damaged: false,
        incarnation: 3,
        description: DESCRIPTION.to_vec(),
    };
    plan(&mut bad, &report, wishes)
        .unwrap()
        .run(&mut bad)
        .unwrap();
    let report = check(&mut bad, shape, Depth::Everything, &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(not_read(&reads(&mut image), &epochs[&(last - 1)]).is_empty());
}

#[test]
fn a_slot_named_twice_is_told_and_mended() {
    let Sample { image, .. } = sample(SEED);
    let map = Map::of(&image);
    let mut told = 0;
    for &(leaf, _) in map.trees.iter().filter(|(_, level)| *level == 0) {
        let place = size_of::<TreeHead>() + offset_of!(RawEntry, slot);
        let old = u32::from_le_bytes(image.get(leaf, place));
        for &slot in map.chunks.keys().filter(|&&slot| slot != old).take(3) {
            let mut image = image.clone();
            let entry: [u8; 8] = image.get(leaf, place);
            if old < 2 || entry[4..] == [0; 4] {
                continue;
            }
            image.put(leaf, place, &slot.to_le_bytes());
            seal(&mut image);
            let Ok(report) = look(&mut image) else {
                continue;
            };
            if report.found.torn {
                continue;
            }
            assert!(!report.twice.is_empty(), "slot {slot} in {leaf}");
            assert!(!report.census.adds_up());
            mends(&image, true);
            told += 1;
        }
    }
    println!("{told} slots named twice");
    assert!(told > 3);
}
#[test]
fn a_sibling_header_is_told_and_written_again() {
    let mut image = sample(SEED).image;
    let found = Map::of(&image).found;
    let file_slots = found.superblock.file_slots;
    assert!(
        found.superblock.grown_slots > file_slots,
        "it has a sibling"
    );
    image.put(file_slots, 0, &[1; 64]);
    assert_eq!(look(&mut image).unwrap().headers, [file_slots]);
    mends(&image, false);
}

/// Remembers what was written, in order.
struct Recording(Image, Vec<(u32, Vec<u8>)>);

impl Medium for Recording {
    fn slots(&mut self) -> u32 {
        self.0.slots()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        self.0.read(slot, into)
    }
}

impl MediumMut for Recording {
    fn write(&mut self, slot: u32, from: &[u8]) -> Result<(), Failure> {
        self.1.push((slot, from.to_vec()));
        self.0.write(slot, from)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

#[test]
fn a_crash_within_a_repair_leaves_what_was_or_what_is_to_be() {
    let Sample { image, .. } = sample(SEED);
    let map = Map::of(&image);
    let mut seen = 0;
    for &slot in map.chunks.keys().step_by(5) {
        let mut image = image.clone();
        image.flip(slot, 77);
        let mut recording = Recording(image.clone(), Vec::new());
        let report = look(&mut image).unwrap();
        let wishes = Wishes {
            drop_damaged: true,
            incarnation: 4,
            description: DESCRIPTION.to_vec(),
        };
        plan(&mut image, &report, wishes)
            .unwrap()
            .run(&mut recording)
            .unwrap();
        let (before, after) = (reads(&mut image.clone()), reads(&mut recording.0));
        let mut crashed = image;
        for (slot, bytes) in recording.1 {
            // Half of it, as far as a sector goes; then all of it.
            for len in [bytes.len() / 2 / 512 * 512, bytes.len()] {
                crashed.put(slot, 0, &bytes[..len]);
                let now = reads(&mut crashed.clone());
                assert!(now == before || now == after, "slot {slot}");
                seen += 1;
            }
        }
    }
    assert!(seen > 50);
}
