//! Every bit of every page in use, flipped: what comes of it is an error, or an epoch, whole. Never
//! other bytes than were written, and never a panic.
//!
//! What is allowed, exactly:
//!
//! | flipped | allowed |
//! |---|---|
//! | one superblock | the last epoch, all of it: the other copy leads there too |
//! | both | `NoSuperblock` |
//! | a commit page up to durable_seq | `Lost` |
//! | a commit page of the last epoch N behind it | N−1, whole: it looks like a commit that a power cut tore |
//! | of an older N | N−1 or N−2; chunks whose slots later epochs took do not read |
//! | a tree page | the last epoch; of the chunks below the page, those that the journal does not name do not read |
//! | a chunk of an older epoch | the last epoch; that chunk does not read |
//! | a chunk of the last epoch | N−1, whole: it looks like a commit that a power cut tore |
//!
//! That rot behind durable_seq looks like a torn commit cannot be told from the cowfile alone: this is
//! why every open, and every checkpoint, moves durable_seq to the end.

use cowroot::engine::cowfile::trouble::Trouble;
use cowroot::engine::format::superblock::{self, HEAD_LEN};

use super::image::Image;
use super::machine::{Machine, chunk_of, settings};
use super::opening;
use super::sample::{ABSENT, DESCRIPTION, Map, Sample, ZERO, not_read, sample};

const SEED: u64 = 7;

/// Flip a bit, open and read all, flip it back.
fn opened(
    image: &mut Image,
    slot: u32,
    bit: usize,
) -> Result<(u64, Vec<(u64, opening::Read)>), Trouble> {
    image.flip(slot, bit);
    let opened = opening::offline(image);
    image.flip(slot, bit);
    opened.map(|(found, reads)| {
        let described = found.superblock.description;
        assert!(
            described == DESCRIPTION,
            "slot {slot} bit {bit}: described otherwise"
        );
        (found.epoch, reads)
    })
}

fn bits(image: &Image) -> std::ops::Range<usize> {
    0..image.shape.chunk_len() * 8
}

/// An image that has all there is; what the tests below are worth depends on it.
fn rich() -> (Sample, Map) {
    let sample = sample(SEED);
    let map = Map::of(&sample.image);
    let durable = map.found.superblock.durable_seq;
    assert_eq!(map.found.epoch, sample.last);
    let behind = map.journal.iter().filter(|page| page.seq > durable);
    let (pages, epochs): (Vec<u32>, std::collections::BTreeSet<u64>) =
        behind.map(|page| (page.slot, page.epoch)).unzip();
    assert!(
        pages.len() > epochs.len() && epochs.len() >= 4,
        "epochs, one of several pages"
    );
    assert!(map.journal.len() > pages.len(), "pages up to durable_seq");
    let levels: std::collections::BTreeSet<u8> = map.trees.iter().map(|tree| tree.1).collect();
    assert_eq!(levels.len(), 3, "trees of several levels");
    let last = &sample.epochs[&sample.last];
    assert!([ABSENT, ZERO].iter().all(|special| last.contains(special)));
    (sample, map)
}

#[test]
fn a_superblock_with_any_bit_flipped_is_made_up_for_by_the_other() {
    let (
        Sample {
            mut image,
            epochs,
            last,
        },
        map,
    ) = rich();
    let len = HEAD_LEN + map.found.superblock.description.len();
    for at in superblock::slots(image.shape) {
        for bit in 0..len * 8 {
            let chunk = image.shape.chunk_len() * 8;
            let slot = at + u32::try_from(bit / chunk).unwrap();
            let (epoch, reads) = opened(&mut image, slot, bit % chunk).unwrap();
            assert_eq!(epoch, last, "slot {at} bit {bit}");
            assert!(not_read(&reads, &epochs[&last]).is_empty());
        }
    }
    let [one, other] = superblock::slots(image.shape);
    for bit in (80..HEAD_LEN).step_by(97) {
        image.flip(one, bit);
        let trouble = opened(&mut image, other, bit).unwrap_err();
        assert_eq!(trouble, Trouble::NoSuperblock);
        image.flip(one, bit);
    }
}

#[test]
fn a_commit_page_with_any_bit_flipped_is_lost_or_looks_torn() {
    let (
        Sample {
            mut image,
            epochs,
            last,
        },
        map,
    ) = rich();
    let durable = map.found.superblock.durable_seq;
    for page in &map.journal {
        for bit in bits(&image) {
            let result = opened(&mut image, page.slot, bit);
            if page.seq <= durable {
                assert_eq!(result.unwrap_err(), Trouble::Lost, "{page:?} bit {bit}");
                continue;
            }
            let (epoch, reads) = result.unwrap();
            let allowed = [page.epoch - 1, page.epoch - 2];
            assert!(
                allowed.contains(&epoch),
                "{page:?} bit {bit}: epoch {epoch}"
            );
            let failed = not_read(&reads, &epochs[&epoch]);
            if page.epoch == last {
                assert!(epoch == last - 1 && failed.is_empty(), "{page:?} bit {bit}");
            }
        }
    }
}

#[test]
fn a_tree_page_with_any_bit_flipped_is_an_error_for_what_it_names() {
    let (
        Sample {
            mut image,
            epochs,
            last,
        },
        map,
    ) = rich();
    let mut hidden = 0;
    for &(slot, level) in &map.trees {
        let most = 1 << (image.shape.fanout_shift * (level + 1));
        for bit in bits(&image) {
            let (epoch, reads) = opened(&mut image, slot, bit).unwrap();
            assert_eq!(epoch, last);
            let failed = not_read(&reads, &epochs[&last]);
            assert!(failed.len() <= most, "slot {slot} bit {bit}: {failed:?}");
            hidden += failed.len();
            for chunk in failed {
                let (_, read) = &reads[usize::try_from(chunk).unwrap()];
                assert_eq!(read.as_ref().unwrap_err(), &Trouble::Damaged { slot });
            }
        }
    }
    assert!(hidden > 0, "some chunks were below those pages");
}

#[test]
fn a_chunk_with_a_bit_flipped_does_not_read_and_no_other_suffers() {
    let (
        Sample {
            mut image,
            epochs,
            last,
        },
        map,
    ) = rich();
    let (mut torn, mut older) = (0, 0);
    for (&slot, &chunk) in &map.chunks {
        let place = usize::try_from(chunk).unwrap();
        let of_last = epochs[&last][place] != epochs[&(last - 1)][place];
        for bit in bits(&image).step_by(61) {
            let (epoch, reads) = opened(&mut image, slot, bit).unwrap();
            if of_last {
                assert_eq!(epoch, last - 1, "chunk {chunk} bit {bit}");
                assert!(not_read(&reads, &epochs[&epoch]).is_empty());
                torn += 1;
            } else {
                assert_eq!(epoch, last, "chunk {chunk} bit {bit}");
                assert_eq!(not_read(&reads, &epochs[&last]), [chunk]);
                older += 1;
            }
        }
    }
    assert!(torn > 0 && older > 0);
}

/// The bytes of a chunk at the device, base and all.
fn device_bytes(content: u32, chunk: usize, chunks: usize, len: usize) -> Vec<u8> {
    match content {
        ABSENT if chunk < chunks * 3 / 4 => vec![super::machine::BASE; len],
        ABSENT | ZERO => vec![0; len],
        content => chunk_of(content, len),
    }
}

/// A store opened on a damaged image: whatever it reads is right, and whatever it says is durable is
/// there when the next one looks.
fn online(image: &Image, epochs: &std::collections::BTreeMap<u64, Vec<u32>>) -> (usize, usize) {
    let Ok(mut machine) = Machine::open(image.clone(), settings(3, 27, 5)) else {
        return (0, 0);
    };
    let len = image.shape.chunk_len();
    let mut model = epochs[&machine.store.usage().epoch].clone();
    let chunks = model.len();
    let mut errors = 0;
    for (chunk, &content) in model.iter().enumerate() {
        match machine.read(chunk as u64) {
            Ok(bytes) => assert!(
                bytes == device_bytes(content, chunk, chunks, len),
                "{chunk}"
            ),
            Err(_) => errors += 1,
        }
    }
    let mut written = true;
    for (content, chunk) in (5000..).zip((0..chunks).step_by(3)) {
        written &= machine.write(chunk as u64, &[content]).is_ok();
        model[chunk] = content;
    }
    if !(written && machine.flush().is_ok()) {
        return (errors, 1);
    }
    let mut after = machine.image.clone();
    let (_, reads) = opening::offline(&mut after).unwrap();
    assert!(not_read(&reads, &model).len() <= errors);
    machine.close();
    // Closed or not, what was flushed is there.
    let (_, reads) = opening::offline(&mut machine.image).unwrap();
    assert!(not_read(&reads, &model).len() <= errors);
    (errors, 0)
}

#[test]
fn a_store_on_a_damaged_cowfile_gives_errors_and_never_wrong_bytes() {
    let (
        Sample {
            mut image, epochs, ..
        },
        map,
    ) = rich();
    assert_eq!(online(&image, &epochs), (0, 0));
    let pages = map.journal.iter().map(|page| page.slot);
    let trees = map.trees.iter().map(|tree| tree.0);
    let mut slots: Vec<u32> = pages
        .chain(trees)
        .chain(map.chunks.keys().copied())
        .collect();
    slots.extend(superblock::slots(image.shape));
    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut errors, mut broken) = (0, 0);
    for slot in slots {
        for _ in 0..6 {
            let bit = random.usize(bits(&image));
            image.flip(slot, bit);
            let (failed, broke) = online(&image, &epochs);
            image.flip(slot, bit);
            (errors, broken) = (errors + failed, broken + broke);
        }
    }
    println!("{errors} chunks did not read, {broken} stores took no writes");
    assert!(errors > 0);
}
