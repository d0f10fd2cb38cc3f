//! Trees that did not read when free slots were looked for, and do later: they are looked through again, and the
//! store goes on in what it finds.

use cowroot::engine::cowfile::create::Plan;

use super::image::SMALL;
use super::machine::{Machine, chunk_of, settings};
use super::sample::{Map, plan};

const CHUNKS: u64 = 64;

/// A full turn of writes, a few chunks an epoch.
fn rewrite(machine: &mut Machine, model: &mut [u32], first: u32) {
    for (content, chunk) in (first..).zip(0..model.len()) {
        machine.write(chunk as u64, &[content]).unwrap();
        model[chunk] = content;
        if chunk % 5 == 0 {
            machine.flush().unwrap();
        }
    }
    machine.flush().unwrap();
}

#[test]
fn trees_that_read_later_are_looked_through_again() {
    let mut model = vec![0; CHUNKS as usize];
    let plan = Plan {
        max_slots: SMALL.first_slot() + 220,
        grown_slots: SMALL.first_slot() + 220,
        file_slots: u32::MAX,
        ..plan(SMALL, CHUNKS)
    };
    let mut machine = Machine::create(plan, settings(2, 27, 1));
    for round in 0..2 {
        rewrite(&mut machine, &mut model, 100 + 100 * round);
    }
    assert!(machine.close());
    let map = Map::of(&machine.image);
    let (leaf, _) = *map.trees.iter().find(|(_, level)| *level == 0).unwrap();
    let mut image = machine.image;
    image.flip(leaf, 1000);
    let mut machine = Machine::open(image, settings(2, 27, 2)).unwrap();
    // The scan begins with the first request, and ends before the next.
    let _base_or_not = machine.read(CHUNKS - 1);
    machine.image.flip(leaf, 1000);
    for round in 0..12 {
        rewrite(&mut machine, &mut model, 1000 + 100 * round);
    }
    assert_eq!(machine.store.broken(), None);
    assert!(machine.store.usage().is_known);
    for (chunk, content) in (0..).zip(&model) {
        let expected = chunk_of(*content, SMALL.chunk_len());
        assert!(machine.read(chunk).unwrap() == expected, "chunk {chunk}");
    }
}
