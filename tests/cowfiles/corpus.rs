//! The fuzzer's corpus, as an ordinary test: each entry, and thousands of changes of it, always the same.
//!
//! `cargo test --test cowfiles corpus::write -- --ignored` makes tests/testdata/corpus again.

use std::fs;
use std::path::PathBuf;

use cowroot::engine::format::Shape;
use cowroot::engine::format::page;

use super::image::{Image, SMALL};
use super::input;
use super::machine::{Machine, settings};
use super::sample::{plan, sample};

/// Changes tried of each entry.
const CHANGES: u64 = 1500;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/corpus")
}

/// After so many epochs, and closed in order or not.
fn small(shape: Shape, epochs: u64, close: bool) -> Image {
    let mut machine = Machine::create(plan(shape, 40), settings(2, 27, 3));
    for epoch in 0..epochs {
        let content = u32::try_from(epoch).unwrap() + 9;
        machine.write(epoch * 7 % 40, &[content]).unwrap();
        machine.discard(epoch * 5 % 40, 2).unwrap();
        machine.flush().unwrap();
    }
    assert!(!close || machine.close());
    machine.image
}

fn entries() -> Vec<(&'static str, Vec<u8>)> {
    // Of chunks a few bytes are enough: their checksums are repaired.
    let short_chunks = |mut image: Image| {
        let first = image.shape.first_slot();
        for (_, page) in image.pages.range_mut(first..) {
            if page[4..8] != page::MAGIC {
                page[8..].fill(0);
            }
        }
        input::encode(&image, false)
    };
    vec![
        ("empty", input::encode(&small(SMALL, 0, true), true)),
        ("clean", input::encode(&small(SMALL, 4, true), true)),
        ("in-use", input::encode(&small(SMALL, 3, false), true)),
        ("rich-repaired", short_chunks(sample(5).image)),
        (
            "product-repaired",
            short_chunks(small(Shape::PRODUCT, 2, false)),
        ),
    ]
}

#[test]
#[ignore = "writes into the sources"]
fn write() {
    for (name, bytes) in entries() {
        fs::write(folder().join(name), bytes).unwrap();
    }
}

/// Another input, near this one.
fn change(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    const HOSTILE: [u64; 8] = [0, 1, 2, 0x7f, 0xff, 0x8000_0000, u32::MAX as u64, u64::MAX];
    let mut bytes = bytes.to_vec();
    // Checksums are repaired in most, or nothing else would ever be looked at.
    if random.u8(0..8) > 0 {
        bytes[0] &= !2;
    }
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..bytes.len());
        match random.u8(0..8) {
            0 => bytes[at] ^= 1 << random.u8(0..8),
            1 => bytes[at] = random.u8(..),
            2 => {
                let end = (at + random.usize(1..600)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + random.usize(1..600)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.usize(0..bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => {
                let value = match random.bool() {
                    true => HOSTILE[random.usize(0..HOSTILE.len())],
                    // A slot, a chunk, a count: numbers that are in use here.
                    false => random.u64(0..80),
                };
                let len = [1, 4, 8][random.usize(0..3)].min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            }
        }
        if bytes.is_empty() {
            return bytes;
        }
    }
    bytes
}

#[test]
fn no_change_of_the_corpus_makes_an_open_panic() {
    let mut names = 0;
    let (mut opened, mut refused) = (0, 0);
    for file in fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        names += 1;
        assert!(input::run(&bytes), "{path:?} opens as it is");
        for seed in 0..CHANGES {
            // A test prints only if it fails.
            println!("{path:?} seed {seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            match input::run(&change(&bytes, &mut random)) {
                true => opened += 1,
                false => refused += 1,
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(names >= 5 && opened > 1000 && refused > 1000);
}

#[test]
fn an_image_is_the_same_after_being_an_input() {
    let image = sample(5).image;
    let (again, raw) = input::decode(&input::encode(&image, true)).unwrap();
    let trim = |image: Image| Image::of_file(image.shape, &image.to_file());
    assert!(raw && trim(again) == trim(image));
}
