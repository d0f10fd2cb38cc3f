//! The pages against chance and malice: values survive, flipped bits do not, and nothing panics.
//!
//! Run one case again with `COWROOT_SEED=<seed>`.

use super::check::{self, Access, Found};
use super::commit::{self, Body, Link, Page, Record};
use super::page::{self, Header, Kind, Origin};
use super::superblock::{
    Extent, FREE_EXTENTS, Features, HEAD_LEN, Layer, LayerState, MAX_LAYERS, Merge, MergeState,
    Superblock,
};
use super::tree::{self, Node};
use super::{Entry, Shape};

const SMALL: Shape = Shape {
    chunk_shift: 9,
    fanout_shift: 4,
    zone_slots: 9,
};

fn seeds(count: u64) -> Vec<u64> {
    let seed = std::env::var("COWROOT_SEED").ok();
    match seed.and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).map(|_| fastrand::u64(..)).collect(),
    }
}

fn each_seed(count: u64, mut test: impl FnMut(&mut fastrand::Rng)) {
    for seed in seeds(count) {
        // A test prints only if it fails.
        println!("COWROOT_SEED={seed}");
        test(&mut fastrand::Rng::with_seed(seed));
    }
}

fn origin(random: &mut fastrand::Rng) -> Origin {
    Origin {
        store: random.u128(..).to_le_bytes(),
        incarnation: random.u64(..),
    }
}

fn link(random: &mut fastrand::Rng) -> Link {
    Link {
        slot: random.u32(..),
        seq: random.u64(..),
        previous: random.u32(..),
    }
}

fn record(random: &mut fastrand::Rng) -> Record {
    let body = match random.u8(..3) {
        0 => {
            let crcs = (0..random.usize(1..9)).map(|_| random.u32(..)).collect();
            Body::Slots(random.u32(2..u32::MAX - 9), crcs)
        }
        1 => Body::Zero(random.u32(1..)),
        _ => Body::Unmap(random.u32(1..)),
    };
    Record {
        layer: random.u8(..64),
        first_chunk: random.u64(..u64::MAX >> 1),
        body,
    }
}

fn commit_page(random: &mut fastrand::Rng, shape: Shape) -> Page {
    let mut page = Page {
        epoch: random.u64(..),
        next: random.u32(..),
        flags: random.u32(..4),
        records: Vec::new(),
    };
    let mut room = commit::room(shape.chunk_len());
    loop {
        let next = record(random);
        if next.len() > room || random.u8(..20) == 0 {
            return page;
        }
        room -= next.len();
        page.records.push(next);
    }
}

fn entries(random: &mut fastrand::Rng, shape: Shape) -> Vec<Entry> {
    let one = |_| Entry {
        slot: random.u32(..),
        crc: random.u32(..),
    };
    (0..shape.fanout()).map(one).collect()
}

/// One that `check` accepts, if `shape` is `Shape::PRODUCT`.
pub(super) fn superblock(random: &mut fastrand::Rng, shape: Shape) -> Superblock {
    let mut layers = [None; MAX_LAYERS];
    let max_slots = random.u32(shape.first_slot() + 10..1 << 30);
    let grown_slots = random.u32(shape.first_slot() + 10..=max_slots);
    for number in 0..random.u8(1..64) {
        layers[usize::from(number)] = Some(Layer {
            root: Entry {
                slot: shape.first_slot() + 1 + u32::from(number) % 8,
                crc: random.u32(..),
            },
            state: LayerState::Sealed,
            parent: number.checked_sub(1),
        });
    }
    let active = layers.iter().flatten().count() - 1;
    layers[active].as_mut().unwrap().state = LayerState::Active;
    Superblock {
        origin: origin(random),
        generation: random.u64(..1 << 62),
        features: Features {
            compat: random.u64(..),
            autoclear: random.u64(..),
            ..Features::default()
        },
        device_bytes: random.u64(1..1 << 46),
        base_bytes: random.u64(..),
        shape,
        max_slots,
        grown_slots,
        file_slots: u32::MAX,
        high_water: random.u32(..max_slots),
        clean: random.bool(),
        journal: Link {
            slot: random.u32(shape.first_slot()..grown_slots),
            seq: random.u64(..1 << 62),
            previous: random.u32(..),
        },
        durable_seq: random.u64(..1 << 62),
        epoch: random.u64(..1 << 62),
        active_layer: u8::try_from(active).unwrap(),
        layers,
        free: (0..random.usize(..=FREE_EXTENTS))
            .map(|_| Extent {
                first: random.u32(..),
                slots: random.u32(1..4),
            })
            .filter(|_| max_slots > 4 * 128)
            .collect(),
        merge: Merge {
            state: [MergeState::None, MergeState::Asked][random.usize(..2)],
            top: random.u8(..),
            frees: random.bool(),
            served: random.bool(),
            is_logged: random.bool(),
            id: random.u64(..),
            kept: 0,
        },
        description: (0..random.usize(..300)).map(|_| random.u8(..)).collect(),
    }
}

pub(super) fn bytes_of(superblock: &Superblock) -> Vec<u8> {
    let mut bytes = vec![0; superblock.len()];
    superblock.encode(&mut bytes);
    bytes
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Flip each bit, and back. None of the flipped is `accepted`, the original is.
fn no_flip_passes(bytes: &mut [u8], accepted: impl Fn(&[u8]) -> bool) {
    assert!(accepted(bytes));
    for bit in 0..bytes.len() * 8 {
        flip(bytes, bit);
        assert!(!accepted(bytes), "bit {bit} flipped");
        flip(bytes, bit);
    }
}

#[test]
fn commit_pages_survive_and_their_flips_do_not() {
    each_seed(50, |random| {
        let (origin, link) = (origin(random), link(random));
        let page = commit_page(random, Shape::PRODUCT);
        let mut bytes = vec![0xa5; 4096];
        let crc = commit::encode(&mut bytes, origin, link, &page);
        assert_eq!(commit::decode(&bytes, origin, link), Some((page, crc)));
    });
    each_seed(2, |random| {
        let (origin, link) = (origin(random), link(random));
        let mut bytes = vec![0; 4096];
        commit::encode(
            &mut bytes,
            origin,
            link,
            &commit_page(random, Shape::PRODUCT),
        );
        no_flip_passes(&mut bytes, |bytes| {
            commit::decode(bytes, origin, link).is_some()
        });
    });
}

#[test]
fn tree_pages_survive_and_their_flips_do_not() {
    each_seed(3, |random| {
        for shape in [SMALL, Shape::PRODUCT] {
            let (origin, slot) = (origin(random), random.u32(..));
            let node = Node {
                layer: random.u8(..64),
                level: random.u8(..7),
                index: random.u64(..),
            };
            let entries = entries(random, shape);
            let mut bytes = vec![0xa5; shape.chunk_len()];
            let crc = tree::encode(&mut bytes, shape, origin, (node, 7, slot), &entries);
            let decode = |bytes: &[u8]| tree::decode(bytes, shape, origin.store, (node, slot, crc));
            assert_eq!(decode(&bytes).as_deref(), Some(&entries[..]));
            no_flip_passes(&mut bytes, |bytes| decode(bytes).is_some());
            // Not by the parent's checksum alone: the page has one of its own.
            let own = |bytes: &[u8]| page::header(bytes, Kind::Tree).is_some();
            no_flip_passes(&mut bytes, own);
        }
    });
}

#[test]
fn superblocks_survive_and_their_flips_do_not() {
    each_seed(50, |random| {
        let superblock = superblock(random, Shape::PRODUCT);
        let decoded = Superblock::decode(&bytes_of(&superblock), superblock.slot());
        assert_eq!(decoded.as_ref(), Some(&superblock));
        assert_eq!(
            check::check(&superblock, Shape::PRODUCT),
            Ok(Access::ReadWrite)
        );
    });
    each_seed(2, |random| {
        let superblock = superblock(random, Shape::PRODUCT);
        let slot = superblock.slot();
        let mut bytes = bytes_of(&superblock);
        no_flip_passes(&mut bytes, |bytes| {
            Superblock::decode(bytes, slot).is_some()
        });
    });
}

#[test]
fn a_sibling_headers_flips_do_not_survive() {
    each_seed(2, |random| {
        let header = Header::new(Kind::Sibling, origin(random), 1, 99, page::HEADER_LEN);
        let mut bytes = vec![0; 4096];
        bytes[..page::HEADER_LEN].copy_from_slice(zerocopy::IntoBytes::as_bytes(&header));
        page::seal(&mut bytes);
        no_flip_passes(&mut bytes, |bytes| {
            page::header(bytes, Kind::Sibling).is_some()
        });
    });
}

/// Change some bytes to hostile ones and put a right checksum over them.
fn mutate(random: &mut fastrand::Rng, bytes: &mut [u8], sealed: usize) {
    const HOSTILE: [u8; 6] = [0, 1, 2, 0x7f, 0x80, 0xff];
    for _ in 0..random.usize(1..4) {
        // Mostly where the fields are.
        let reach = if random.u8(..4) == 0 {
            sealed
        } else {
            sealed.min(200)
        };
        let at = random.usize(8..reach);
        let len = *random.choice([1, 4, 8].iter()).unwrap();
        let with = *random.choice(HOSTILE.iter()).unwrap();
        let end = (at + len).min(sealed);
        bytes[at..end].fill(with);
    }
    page::seal(&mut bytes[..sealed]);
}

#[test]
fn hostile_pages_with_a_right_checksum_are_values_or_none_and_never_a_panic() {
    let (mut passed, mut refused) = (0, 0);
    each_seed(3000, |random| {
        let (origin, link) = (origin(random), link(random));
        let mut bytes = vec![0; 512];
        commit::encode(&mut bytes, origin, link, &commit_page(random, SMALL));
        mutate(random, &mut bytes, 512);
        match commit::decode(&bytes, origin, link) {
            Some((page, _)) => {
                passed += 1;
                assert!(page.records.iter().map(Record::len).sum::<usize>() <= commit::room(512));
                for record in &page.records {
                    assert!(
                        record.count() > 0
                            && record.first_chunk.checked_add(record.count()).is_some()
                    );
                }
            }
            None => refused += 1,
        }
        let node = Node {
            layer: 0,
            level: random.u8(..),
            index: random.u64(..),
        };
        let entries = entries(random, SMALL);
        tree::encode(&mut bytes, SMALL, origin, (node, 7, 99), &entries);
        mutate(random, &mut bytes, 512);
        let crc = page::checksum(&bytes);
        let _ = tree::decode(&bytes, SMALL, origin.store, (node, 99, crc));
        let _ = (node.first_chunk(SMALL), node.child(15, SMALL));
        let superblock = superblock(random, Shape::PRODUCT);
        let mut bytes = bytes_of(&superblock);
        mutate(random, &mut bytes, HEAD_LEN);
        if let Found::Superblock(found) = check::look(&bytes, superblock.slot()) {
            let _ = (
                found.chunks(),
                found.stack(),
                found.shape.height(found.chunks()),
            );
            let _ = check::check(&found, found.shape);
            let _ = check::check(&found, Shape::PRODUCT);
        }
    });
    println!("{passed} passed, {refused} refused");
    assert!(seeds(2).len() == 1 || (passed > 100 && refused > 100));
}

#[test]
fn a_tree_of_any_number_of_chunks_has_a_height() {
    for (shift, chunks, height) in [
        (8, 0, 1),
        (8, 256, 1),
        (8, 257, 2),
        (8, 1 << 56, 7),
        (8, u64::MAX, 8),
        (1, u64::MAX, 64),
        (7, u64::MAX, 10),
    ] {
        let shape = Shape {
            fanout_shift: shift,
            ..Shape::PRODUCT
        };
        assert_eq!(shape.height(chunks), height, "{chunks} chunks, 2^{shift}");
    }
}
