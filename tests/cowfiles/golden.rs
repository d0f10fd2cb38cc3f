//! Golden cowfiles: tests/testdata/golden, whose README says what each is. They open for ever.
//!
//! `cargo test --test cowfiles golden::write -- --ignored` makes those that are missing, and leaves
//! those that are there as they are: what a released version wrote is never written again.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use cowroot::engine::cowfile::create::Plan;
use cowroot::engine::cowfile::recover::Recovered;
use cowroot::engine::cowfile::trouble::Trouble;
use cowroot::engine::format::Shape;
use cowroot::engine::format::check::{Access, Refusal};
use cowroot::engine::format::description::{
    Description, Event, EventKind, Identity, LayerName, Sample, room,
};
use cowroot::engine::format::page::Origin;
use cowroot::engine::format::superblock::{self, DESCRIPTION_VERSION, RawSuperblock};

use super::image::Image;
use super::machine::{BASE, Machine, chunk_of, settings};
use super::opening;
use super::repair::seal_superblock;
use super::sample::{ABSENT, ZERO, not_read};

/// Chunks of the device; the last one is cut short by its end.
const CHUNKS: u64 = 1001;
const DEVICE_BYTES: u64 = 1000 * 4096 + 512;
const BASE_BYTES: u64 = 900 * 4096;

type Maker = fn() -> Image;

struct Golden {
    name: &'static str,
    make: Maker,
    /// What each chunk reads as.
    chunk: fn(u64) -> u32,
    epoch: u64,
    generation: u64,
    grown_slots: u32,
    journal_pages: usize,
    clean: bool,
    torn: bool,
}

const GOLDEN: [Golden; 5] = [
    Golden {
        name: "empty",
        make: empty,
        chunk: |_| ABSENT,
        epoch: 0,
        generation: 2,
        grown_slots: 2112,
        journal_pages: 0,
        clean: true,
        torn: false,
    },
    Golden {
        name: "clean",
        make: clean,
        chunk: in_clean,
        epoch: 2,
        generation: 6,
        grown_slots: 2176,
        journal_pages: 0,
        clean: true,
        torn: false,
    },
    Golden {
        name: "in-use",
        make: in_use,
        chunk: in_in_use,
        epoch: 5,
        generation: 8,
        grown_slots: 2176,
        journal_pages: 3,
        clean: false,
        torn: false,
    },
    Golden {
        name: "torn",
        make: torn,
        chunk: |chunk| match chunk {
            // What the last epoch wrote there never was.
            999 => ABSENT,
            chunk => in_in_use(chunk),
        },
        epoch: 4,
        generation: 8,
        grown_slots: 2176,
        journal_pages: 2,
        clean: false,
        torn: true,
    },
    Golden {
        name: "ro-compat",
        make: || with_feature(clean(), std::mem::offset_of!(RawSuperblock, ro_compat)),
        chunk: in_clean,
        epoch: 2,
        generation: 6,
        grown_slots: 2176,
        journal_pages: 0,
        clean: true,
        torn: false,
    },
];

fn description() -> Description {
    Description {
        name: "golden".into(),
        made_s: 1_700_000_000,
        made_by: "0.1.0".into(),
        base: Identity {
            size_bytes: BASE_BYTES,
            uuid: Some("2026-01-01-00-00-00-00".into()),
            label: Some("GOLDEN".into()),
            samples: vec![Sample { chunk: 0, crc: 7 }],
            full: None,
        },
        layers: vec![LayerName {
            number: 0,
            name: "first".into(),
            made_s: 1_700_000_000,
            sealed_s: None,
        }],
        history: vec![Event {
            at_s: 1_700_000_000,
            kind: EventKind::Made,
            text: "made for a test".into(),
        }],
    }
}

fn machine() -> Machine {
    let shape = Shape::PRODUCT;
    let plan = Plan {
        origin: Origin {
            store: *b"golden cowfile 1",
            incarnation: 1,
        },
        shape,
        device_bytes: DEVICE_BYTES,
        base_bytes: BASE_BYTES,
        max_slots: 1 << 20,
        grown_slots: shape.first_slot() + 64,
        file_slots: 1 << 20,
        description: description().encode(room(shape)).unwrap(),
    };
    Machine::create(plan, settings(1000, 64, 1))
}

fn empty() -> Image {
    machine().image
}

fn clean() -> Image {
    let mut machine = machine();
    let numbers =
        |chunks: std::ops::Range<u32>| chunks.map(|chunk| 1000 + chunk).collect::<Vec<_>>();
    machine.write(0, &numbers(0..8)).unwrap();
    machine.write(256, &numbers(256..260)).unwrap();
    machine.discard(300, 300).unwrap();
    machine.flush().unwrap();
    machine.write(700, &numbers(700..701)).unwrap();
    machine.flush().unwrap();
    assert!(machine.close());
    machine.image
}

fn in_clean(chunk: u64) -> u32 {
    match chunk {
        0..8 | 256..260 | 700 => 1000 + u32::try_from(chunk).unwrap(),
        300..600 => ZERO,
        _ => ABSENT,
    }
}

fn in_use() -> Image {
    let mut machine = Machine::open(clean(), settings(1000, 64, 2)).unwrap();
    machine.write(4, &(2004..2012).collect::<Vec<_>>()).unwrap();
    machine.flush().unwrap();
    machine.discard(256, 2).unwrap();
    machine.write(400, &[2400]).unwrap();
    machine.flush().unwrap();
    machine.write(999, &[2999]).unwrap();
    machine.flush().unwrap();
    machine.image
}

fn in_in_use(chunk: u64) -> u32 {
    match chunk {
        4..12 | 400 | 999 => 2000 + u32::try_from(chunk).unwrap(),
        256..258 => ZERO,
        chunk => in_clean(chunk),
    }
}

/// A power cut took the chunk of the last epoch, and left its page.
fn torn() -> Image {
    let mut image = in_use();
    image.pages.retain(|_, page| *page != chunk_of(2999, 4096));
    image
}

/// A bit of a feature word, in both superblocks, that nobody knows.
fn with_feature(mut image: Image, word: usize) -> Image {
    for slot in superblock::slots(image.shape) {
        image.put(slot, word, &(1_u64 << 63).to_le_bytes());
        seal_superblock(&mut image, slot);
    }
    image
}

fn incompat() -> Image {
    with_feature(clean(), std::mem::offset_of!(RawSuperblock, incompat))
}

fn makers() -> Vec<(&'static str, Maker)> {
    let makers = GOLDEN.iter().map(|golden| (golden.name, golden.make));
    makers.chain([("incompat", incompat as Maker)]).collect()
}

fn path_of(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/golden");
    folder.join(format!("v1-{name}.cow.gz"))
}

pub(crate) fn stored(name: &str) -> Image {
    let packed = fs::read(path_of(name)).unwrap();
    let mut bytes = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(packed.as_slice());
    reader.read_to_end(&mut bytes).unwrap();
    Image::of_file(Shape::PRODUCT, &bytes)
}

#[test]
#[ignore = "writes into the sources"]
fn write() {
    for (name, make) in makers() {
        let path = path_of(name);
        if !path.exists() {
            let level = flate2::Compression::best();
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), level);
            packed.write_all(&make().to_file()).unwrap();
            fs::write(path, packed.finish().unwrap()).unwrap();
        }
    }
}

#[test]
fn every_golden_cowfile_opens_and_reads_as_it_was_written() {
    for golden in &GOLDEN {
        let name = golden.name;
        let mut image = stored(name);
        println!("{name}");
        let chunks: Vec<u32> = (0..CHUNKS).map(golden.chunk).collect();
        let (found, reads) = opening::offline(&mut image).unwrap();
        assert!(not_read(&reads, &chunks).is_empty(), "{name}");
        facts(golden, &found);
        through_a_store(golden, image, found);
    }
}

fn facts(golden: &Golden, found: &Recovered) {
    let name = golden.name;
    let superblock = &found.superblock;
    assert_eq!(superblock.origin.store, *b"golden cowfile 1", "{name}");
    assert_eq!(superblock.shape, Shape::PRODUCT, "{name}");
    assert_eq!(superblock.device_bytes, DEVICE_BYTES, "{name}");
    assert_eq!(superblock.base_bytes, BASE_BYTES, "{name}");
    assert_eq!(
        (superblock.max_slots, superblock.file_slots),
        (1 << 20, 1 << 20),
        "{name}"
    );
    assert_eq!(superblock.grown_slots, golden.grown_slots, "{name}");
    assert_eq!(superblock.generation, golden.generation, "{name}");
    assert_eq!(superblock.clean, golden.clean, "{name}");
    let journal = (found.epoch, found.journal.len(), found.torn);
    let expected = (golden.epoch, golden.journal_pages, golden.torn);
    assert_eq!(
        journal, expected,
        "{name}: epoch, pages of the journal, torn"
    );
    let described = Description::decode(DESCRIPTION_VERSION, &superblock.description);
    assert_eq!(described, Ok(description()), "{name}");
    let access = match name {
        "ro-compat" => Access::ReadOnly(vec!["a feature without a name here (bit 63)".into()]),
        _ => Access::ReadWrite,
    };
    assert_eq!(found.access, access, "{name}");
}

/// A store reads the same, and writes, if it may.
fn through_a_store(golden: &Golden, image: Image, found: Recovered) {
    let may_write = found.access == Access::ReadWrite;
    let mut machine = Machine::with(image.clone(), found, settings(2, 64, 3));
    for chunk in (0..12).chain(250..310).chain([700, 999]) {
        let expected = match (golden.chunk)(chunk) {
            ABSENT if chunk < BASE_BYTES / 4096 => vec![BASE; 4096],
            ABSENT | ZERO => vec![0; 4096],
            content => chunk_of(content, 4096),
        };
        assert!(
            machine.read(chunk) == Ok(expected),
            "{}: chunk {chunk}",
            golden.name
        );
    }
    assert_eq!(
        machine.write(5, &[77]).is_ok(),
        may_write,
        "{}",
        golden.name
    );
    // What cannot be written has nothing to flush.
    assert!(machine.flush().is_ok(), "{}", golden.name);
    if !may_write {
        return assert!(
            machine.image == image,
            "{}: nothing is written",
            golden.name
        );
    }
    assert!(machine.close());
    let mut chunks: Vec<u32> = (0..CHUNKS).map(golden.chunk).collect();
    chunks[5] = 77;
    let (_, reads) = opening::offline(&mut machine.image).unwrap();
    assert!(not_read(&reads, &chunks).is_empty(), "{}", golden.name);
}

#[test]
fn a_golden_cowfile_of_an_unknown_feature_is_refused_by_its_name() {
    let trouble = opening::offline(&mut stored("incompat")).unwrap_err();
    let Trouble::Refused(Refusal::Newer(names)) = trouble else {
        panic!("{trouble:?}");
    };
    assert_eq!(names, ["a feature without a name here (bit 63)"]);
}

#[test]
fn a_golden_cowfile_is_made_of_the_same_bytes_every_time() {
    for (name, make) in makers() {
        assert!(make() == make(), "{name}");
    }
}
