//! A page of a lower layer that does not read harms the chunks that need it, and no others.

use cowroot::engine::command::Failure;
use cowroot::engine::cowfile::layers::{self, Edit};
use cowroot::engine::cowfile::offline::{Content, Offline};
use cowroot::engine::cowfile::recover::recover;
use cowroot::engine::cowfile::trouble::Trouble;

use super::image::{Image, SMALL};
use super::machine::{Machine, chunk_of, settings};
use super::sample::plan;

const CHUNKS: u64 = 64;

/// Layers one on the other, the lowest first: what each wrote, chunk by chunk, from which chunk on.
fn stack(writes: &[(u64, &[u32])]) -> Image {
    let mut image = None;
    for (number, &(chunk, contents)) in (1..).zip(writes) {
        let settings = settings(100, 27, number);
        let mut machine = match image.take() {
            None => Machine::create(plan(SMALL, CHUNKS), settings),
            Some(image) => Machine::open(image, settings).unwrap(),
        };
        machine.write(chunk, contents).unwrap();
        assert!(machine.close());
        let mut medium = machine.image;
        if (number as usize) < writes.len() {
            let found = recover(&mut medium, SMALL, None).unwrap();
            let below = Some(found.superblock.active_layer);
            let planned = layers::planned(&found, Edit::Begin(below)).unwrap();
            layers::write(&mut medium, &found, planned).unwrap();
        }
        image = Some(medium);
    }
    image.unwrap()
}

#[test]
fn a_damaged_page_of_the_lowest_layer_harms_only_what_it_has() {
    let mut image = stack(&[(0, &[1, 1, 1, 1]), (1, &[2, 2]), (2, &[3])]);
    let found = recover(&mut image, SMALL, None).unwrap();
    let lowest = found.superblock.layers[0].unwrap().root.slot;
    let expect = [Err(Failure::Io), Ok(2), Ok(3), Err(Failure::Io)];
    image.flip(lowest, 1000);

    let mut machine = Machine::open(image.clone(), settings(100, 27, 9)).unwrap();
    for round in 0..2 {
        for (chunk, expected) in (0..).zip(&expect) {
            let read = machine.read(chunk);
            let wanted = expected.map(|content| chunk_of(content, SMALL.chunk_len()));
            assert!(read == wanted, "round {round}, chunk {chunk}");
        }
    }
    // It may read again, some day.
    machine.image.flip(lowest, 1000);
    let read = machine.read(0).unwrap();
    assert!(read == chunk_of(1, SMALL.chunk_len()));

    let mut offline = Offline::new(found);
    let mut bytes = vec![0; SMALL.chunk_len()];
    for (chunk, expected) in (0..).zip(&expect) {
        let read = offline.read(&mut image, chunk, &mut bytes);
        match expected {
            Ok(content) => {
                assert_eq!(read, Ok(Content::Read));
                assert!(bytes == chunk_of(*content, SMALL.chunk_len()));
            }
            Err(_) => assert_eq!(read, Err(Trouble::Damaged { slot: lowest })),
        }
    }
}

#[test]
fn who_goes_on_finds_the_memory_as_long_as_it_was_however_many_sessions_began() {
    let mut image = stack(&[(0, &[1])]);
    let mut found = recover(&mut image, SMALL, None).unwrap();
    found.superblock.shape = cowroot::engine::format::Shape::PRODUCT;
    let settings = settings(100, 27, 1);
    let before = settings.staging_bytes(&found.superblock);
    for bytes in [1, 4000, 100_000, 250_000] {
        found.superblock.description = vec![0; bytes];
        assert_eq!(settings.staging_bytes(&found.superblock), before, "{bytes}");
    }
}
