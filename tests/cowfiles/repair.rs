//! Right checksums over whatever an image says: what was changed in it gets past them, and meets what
//! stands behind.

use std::collections::BTreeSet;
use std::mem::offset_of;

use cowroot::engine::format::commit::{CommitHead, RawRecord};
use cowroot::engine::format::page::{self, Header, Kind};
use cowroot::engine::format::superblock::{self, HEAD_LEN, LayerRoot, MAX_LAYERS, RawSuperblock};
use cowroot::engine::format::tree::{RawEntry, TreeHead};

use super::image::Image;

/// Levels of the highest tree, and more.
const MOST_LEVELS: u32 = 10;
/// Commit pages that are followed.
const MOST_PAGES: usize = 500;

/// Seal all that the superblocks lead to, from the far end: chunks, the pages that name them, the
/// superblocks.
pub(crate) fn repair(image: &mut Image) {
    for at in superblock::slots(image.shape) {
        for layer in 0..MAX_LAYERS {
            let root = offset_of!(RawSuperblock, layers) + layer * size_of::<LayerRoot>();
            let slot = u32::from_le_bytes(image.get(at, root));
            let mut seen = BTreeSet::new();
            if let Some(crc) = seal_tree(image, slot, MOST_LEVELS, &mut seen) {
                let place = root + offset_of!(LayerRoot, crc);
                image.put(at, place, &crc.to_le_bytes());
            }
        }
        seal_journal(image, at);
        seal_superblock(image, at);
    }
}

/// Seal a superblock and its description, as they are.
pub(crate) fn seal_superblock(image: &mut Image, at: u32) {
    if image.get(at, offset_of!(Header, magic)) != page::MAGIC {
        return;
    }
    let len = u32::from_le_bytes(image.get(at, offset_of!(RawSuperblock, description_bytes)));
    let room = (image.shape.zone_slots as usize) << image.shape.chunk_shift;
    let len = (len as usize).min(room - HEAD_LEN);
    let mut bytes = bytes_of(image, at, HEAD_LEN + len);
    let crc = page::checksum(&bytes[HEAD_LEN..]);
    let place = offset_of!(RawSuperblock, description_crc);
    bytes[place..place + 4].copy_from_slice(&crc.to_le_bytes());
    page::seal(&mut bytes[..HEAD_LEN]);
    image.put(at, 0, &bytes);
}

/// What is from a slot on, across pages.
fn bytes_of(image: &Image, slot: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let chunk = image.shape.chunk_len();
    let end = slot.saturating_add(u32::try_from(len.div_ceil(chunk)).unwrap());
    for (&at, page) in image.pages.range(slot..end) {
        let place = &mut bytes[(at - slot) as usize * chunk..];
        let len = place.len().min(chunk);
        place[..len].copy_from_slice(&page[..len]);
    }
    bytes
}

/// Whether there is a page of this kind, whatever else is in it.
fn is_page(image: &Image, slot: u32, kind: Kind) -> bool {
    image.pages.contains_key(&slot)
        && image.get(slot, offset_of!(Header, magic)) == page::MAGIC
        && image.get(slot, offset_of!(Header, kind)) == (kind as u16).to_le_bytes()
}

fn seal(image: &mut Image, slot: u32) -> u32 {
    page::seal(image.page_mut(slot))
}

/// Seal a tree page and all below it: what the entry that names it says then.
fn seal_tree(image: &mut Image, slot: u32, levels: u32, seen: &mut BTreeSet<u32>) -> Option<u32> {
    if levels == 0 || !is_page(image, slot, Kind::Tree) {
        // A chunk, or nothing: its checksum, if it exists.
        let page = image.pages.get(&slot)?;
        return Some(page::checksum(page));
    }
    if seen.insert(slot) {
        let [level] = image.get(slot, offset_of!(TreeHead, level));
        for entry in 0..1 << image.shape.fanout_shift {
            let at = size_of::<TreeHead>() + entry * size_of::<RawEntry>();
            let child = u32::from_le_bytes(image.get(slot, at));
            let below = match level {
                0 => image.pages.get(&child).map(|page| page::checksum(page)),
                _ => seal_tree(image, child, levels - 1, seen),
            };
            // An entry without a page keeps what it says.
            if let Some(crc) = below.filter(|_| child > 1) {
                image.put(slot, at + offset_of!(RawEntry, crc), &crc.to_le_bytes());
            }
        }
        seal(image, slot);
    }
    Some(page::checksum(image.page_mut(slot)))
}

/// Seal the pages of a superblock's journal, and the checksums of the chunks they name.
fn seal_journal(image: &mut Image, superblock: u32) {
    let start = offset_of!(RawSuperblock, journal_start);
    let mut slot = u32::from_le_bytes(image.get(superblock, start));
    let previous = offset_of!(RawSuperblock, journal_previous);
    let mut previous: [u8; 4] = image.get(superblock, previous);
    let mut seen = BTreeSet::new();
    while is_page(image, slot, Kind::Commit) && seen.insert(slot) && seen.len() < MOST_PAGES {
        seal_records(image, slot);
        image.put(slot, offset_of!(Header, previous), &previous);
        previous = seal(image, slot).to_le_bytes();
        slot = u32::from_le_bytes(image.get(slot, offset_of!(CommitHead, next)));
    }
}

fn seal_records(image: &mut Image, slot: u32) {
    let end = image.shape.chunk_len();
    let records = u32::from_le_bytes(image.get(slot, offset_of!(CommitHead, records)));
    let mut at = size_of::<CommitHead>();
    for _ in 0..records.min(1000) {
        if at + size_of::<RawRecord>() > end {
            return;
        }
        let word = |image: &Image, field: usize| u32::from_le_bytes(image.get(slot, at + field));
        let count = word(image, offset_of!(RawRecord, count));
        let first = word(image, offset_of!(RawRecord, first_slot));
        let [kind] = image.get(slot, at + offset_of!(RawRecord, kind));
        at += size_of::<RawRecord>();
        if kind != 1 {
            continue;
        }
        for number in 0..count {
            if at + 4 > end {
                return;
            }
            if let Some(page) = image.pages.get(&first.wrapping_add(number)) {
                let crc = page::checksum(page);
                image.put(slot, at, &crc.to_le_bytes());
            }
            at += 4;
        }
    }
}
