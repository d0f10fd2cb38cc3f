//! Pages with right checksums that say what cannot be: refused, or an error for what they name. No
//! panic (the product is built with overflow checks, and would abort), and no memory to speak of.

use std::mem::offset_of;
use std::process::Command;

use cowroot::engine::cowfile::trouble::Trouble;
use cowroot::engine::format::check::Refusal;
use cowroot::engine::format::commit::{CommitHead, RawRecord};
use cowroot::engine::format::page::Header;
use cowroot::engine::format::superblock::{self, LayerRoot, RawSuperblock};
use cowroot::engine::format::tree::{RawEntry, TreeHead};

use super::image::Image;
use super::opening;
use super::repair::repair;
use super::sample::{Map, Page, sample};

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not opened: the superblock cannot be right.
    Implausible,
    /// Not opened: made in other sizes.
    Shape,
    /// Not opened: no superblock counts.
    NoSuperblock,
    /// Not opened: a page of the journal cannot be right.
    Damaged,
    Truncated,
    Lost,
    /// The page does not count: the epochs before it are found.
    Before,
    /// Opened, and some chunks do not read.
    Unread,
    /// Opened and read, whatever it says.
    Opens,
}

use End::*;

/// The field of a struct: where it is, and what to write there.
macro_rules! at {
    ($type:ident . $field:ident) => {
        offset_of!($type, $field)
    };
}

const MAX32: [u8; 4] = u32::MAX.to_le_bytes();
const MAX64: [u8; 8] = u64::MAX.to_le_bytes();

struct Case {
    name: &'static str,
    image: Image,
    end: End,
}

struct Cases {
    image: Image,
    map: Map,
    all: Vec<Case>,
}

impl Cases {
    fn new() -> Self {
        let mut samples = (0..).map(|seed| sample(seed).image);
        let fits = |image: Image| {
            let map = Map::of(&image);
            let cases = Self {
                image,
                map,
                all: Vec::new(),
            };
            let kind = size_of::<CommitHead>() + at!(RawRecord.kind);
            let is_data = |page: Page| cases.image.get(page.slot, kind) == [1];
            (is_data(cases.durable()) && is_data(cases.proved())).then_some(cases)
        };
        samples.find_map(fits).unwrap()
    }

    /// The last page up to durable_seq: it counts, whatever is behind it.
    fn durable(&self) -> Page {
        let durable = self.map.found.superblock.durable_seq;
        let mut pages = self.map.journal.iter();
        *pages.rfind(|page| page.seq <= durable).unwrap()
    }

    /// The first page behind durable_seq: the next epoch proves its epoch.
    fn proved(&self) -> Page {
        let durable = self.map.found.superblock.durable_seq;
        let mut pages = self.map.journal.iter();
        *pages.find(|page| page.seq > durable).unwrap()
    }

    fn change(&mut self, name: &'static str, end: End, change: impl FnOnce(&mut Image)) {
        let mut image = self.image.clone();
        change(&mut image);
        repair(&mut image);
        self.all.push(Case { name, image, end });
    }

    /// Both superblocks say so.
    fn super_says(&mut self, name: &'static str, at: usize, bytes: &[u8], end: End) {
        self.change(name, end, |image| {
            for slot in superblock::slots(image.shape) {
                image.put(slot, at, bytes);
            }
        });
    }

    /// A page says so, `at` bytes from its start.
    fn page_says(&mut self, name: &'static str, slot: u32, (at, bytes): (usize, &[u8]), end: End) {
        self.change(name, end, |image| image.put(slot, at, bytes));
    }
}

#[rustfmt::skip]
fn superblocks(cases: &mut Cases) {
    let newest = cases.map.found.superblock.slot();
    let highest = u64::MAX - u64::from(newest != 0);
    cases.change("the last generation of all", Implausible, |image| {
        image.put(newest, at!(Header.seq), &highest.to_le_bytes());
    });
    let root = at!(RawSuperblock.layers) + at!(LayerRoot.root);
    let parent = at!(RawSuperblock.layers) + at!(LayerRoot.parent);
    let first = cases.image.shape.first_slot();
    for (name, at, bytes, end) in [
        ("epoch", at!(RawSuperblock.epoch), &MAX64[..], Implausible),
        ("journal_seq", at!(RawSuperblock.journal_seq), &MAX64, Implausible),
        ("durable_seq", at!(RawSuperblock.durable_seq), &MAX64, Implausible),
        ("high durable_seq", at!(RawSuperblock.durable_seq), &(1_u64 << 60).to_le_bytes(), Lost),
        ("device_bytes", at!(RawSuperblock.device_bytes), &MAX64, Implausible),
        ("no device", at!(RawSuperblock.device_bytes), &[0; 8], Implausible),
        ("long device", at!(RawSuperblock.device_bytes), &(u64::MAX >> 1).to_le_bytes(), Unread),
        ("base_bytes", at!(RawSuperblock.base_bytes), &MAX64, Opens),
        ("max_slots", at!(RawSuperblock.max_slots), &MAX32, Opens),
        ("few max_slots", at!(RawSuperblock.max_slots), &[9, 0, 0, 0], Implausible),
        ("grown_slots", at!(RawSuperblock.grown_slots), &MAX32, Implausible),
        ("no grown_slots", at!(RawSuperblock.grown_slots), &[0; 4], Implausible),
        ("high_water", at!(RawSuperblock.high_water), &MAX32, Implausible),
        ("no high_water", at!(RawSuperblock.high_water), &[0; 4], Opens),
        ("no file_slots", at!(RawSuperblock.file_slots), &[0; 4], Implausible),
        ("one file_slot", at!(RawSuperblock.file_slots), &[1, 0, 0, 0], Implausible),
        ("few file_slots", at!(RawSuperblock.file_slots), &(first - 1).to_le_bytes(), Implausible),
        ("file_slots", at!(RawSuperblock.file_slots), &MAX32, Opens),
        ("no zone_slots", at!(RawSuperblock.zone_slots), &[0; 4], NoSuperblock),
        ("zone_slots", at!(RawSuperblock.zone_slots), &MAX32, Shape),
        ("chunk_shift", at!(RawSuperblock.chunk_shift), &[255], NoSuperblock),
        ("another chunk_shift", at!(RawSuperblock.chunk_shift), &[12], Shape),
        ("fanout_shift", at!(RawSuperblock.fanout_shift), &[255], NoSuperblock),
        ("no fanout_shift", at!(RawSuperblock.fanout_shift), &[0], NoSuperblock),
        ("another fanout_shift", at!(RawSuperblock.fanout_shift), &[8], Shape),
        ("state", at!(RawSuperblock.state), &[2], NoSuperblock),
        ("active_layer", at!(RawSuperblock.active_layer), &[255], Implausible),
        ("its own parent", parent, &[0], Implausible),
        ("journal_start", at!(RawSuperblock.journal_start), &MAX32, Implausible),
        ("no journal_start", at!(RawSuperblock.journal_start), &[0; 4], Implausible),
        ("journal in a superblock", at!(RawSuperblock.journal_start), &[9, 0, 0, 0], Implausible),
        ("root", root, &MAX32, Implausible),
        ("root in a superblock", root, &[9, 0, 0, 0], Implausible),
        ("description_bytes", at!(RawSuperblock.description_bytes), &MAX32, NoSuperblock),
    ] {
        cases.super_says(name, at, bytes, end);
    }
    cases.change("generations in each other's place", NoSuperblock, |image| {
        for slot in superblock::slots(image.shape) {
            let seq = u64::from_le_bytes(image.get(slot, at!(Header.seq)));
            image.put(slot, at!(Header.seq), &(seq + 1).to_le_bytes());
        }
    });
    for (name, claimed, end) in [
        ("16 TiB that are not there", None, Truncated),
        ("16 TiB", Some(u32::MAX), Opens),
    ] {
        cases.change(name, end, |image| {
            for slot in superblock::slots(image.shape) {
                image.put(slot, at!(RawSuperblock.max_slots), &MAX32);
                image.put(slot, at!(RawSuperblock.grown_slots), &MAX32);
                image.put(slot, at!(RawSuperblock.high_water), &MAX32);
                image.put(slot, at!(RawSuperblock.file_slots), &MAX32);
            }
            image.slots = claimed.unwrap_or(image.slots);
        });
    }
}

#[rustfmt::skip]
fn commit_pages(cases: &mut Cases) {
    let slot = cases.proved().slot;
    let superblock = &cases.map.found.superblock;
    let max_slots = superblock.max_slots.to_le_bytes();
    let header = superblock.file_slots.to_le_bytes();
    let own = slot.to_le_bytes();
    for (name, at, bytes, end) in [
        ("next", at!(CommitHead.next), &MAX32[..], Damaged),
        ("next is zero", at!(CommitHead.next), &[0; 4], Damaged),
        ("next in a superblock", at!(CommitHead.next), &[9, 0, 0, 0], Damaged),
        ("next behind the end", at!(CommitHead.next), &max_slots, Damaged),
        ("next is a sibling's header", at!(CommitHead.next), &header, Damaged),
        ("next is itself", at!(CommitHead.next), &own, Opens),
        ("records", at!(CommitHead.records), &MAX32, Before),
        ("epoch", at!(CommitHead.epoch), &MAX64, Damaged),
        ("seq", at!(Header.seq), &MAX64, Before),
        ("length", at!(Header.length), &MAX32, Before),
        ("no length", at!(Header.length), &[0; 4], Before),
        ("no flags", at!(Header.flags), &[0; 4], Damaged),
        ("all flags", at!(Header.flags), &MAX32, Opens),
        ("only the first page", at!(Header.flags), &[1, 0, 0, 0], Damaged),
        ("another incarnation", at!(Header.incarnation), &MAX64, Before),
    ] {
        cases.page_says(name, slot, (at, bytes), end);
    }
    let beyond = cases.image.slots.to_le_bytes();
    let slot = cases.durable().slot;
    cases.page_says(
        "next where no file is",
        slot,
        (at!(CommitHead.next), &beyond),
        Truncated,
    );
}

/// The first record of a page.
#[rustfmt::skip]
fn records(cases: &mut Cases) {
    let record = |field: usize| size_of::<CommitHead>() + field;
    let superblock = &cases.map.found.superblock;
    let chunks = superblock.chunks().to_le_bytes();
    let beyond = (superblock.max_slots - 10).to_le_bytes();
    let header = superblock.file_slots.to_le_bytes();
    let near = (u32::MAX - 100).to_le_bytes();
    for (name, at, bytes, end) in [
        ("first_chunk", at!(RawRecord.first_chunk), &MAX64[..], Before),
        ("first_chunk behind the device", at!(RawRecord.first_chunk), &chunks, Damaged),
        ("count", at!(RawRecord.count), &MAX32, Before),
        ("no count", at!(RawRecord.count), &[0; 4], Before),
        ("first_slot", at!(RawRecord.first_slot), &MAX32, Before),
        ("first_slot near the last number", at!(RawRecord.first_slot), &near, Damaged),
        ("first_slot in a superblock", at!(RawRecord.first_slot), &[9, 0, 0, 0], Damaged),
        ("first_slot is a sibling's header", at!(RawRecord.first_slot), &header, Damaged),
        ("kind", at!(RawRecord.kind), &[4], Before),
        ("another layer", at!(RawRecord.layer), &[1], Damaged),
        ("layer", at!(RawRecord.layer), &[255], Before),
    ] {
        let slot = cases.proved().slot;
        cases.page_says(name, slot, (record(at), bytes), end);
    }
    let slot = cases.durable().slot;
    let says = (record(at!(RawRecord.first_slot)), &beyond[..]);
    cases.page_says("first_slot where no file is", slot, says, Truncated);
}

fn tree_pages(cases: &mut Cases) {
    // A page that somebody reads: it has a chunk that the journal does not name.
    let read = |level| {
        let of_level = cases.map.trees.iter().filter(|tree| tree.1 == level);
        let mut slots = of_level.map(|tree| tree.0);
        let is_read = |slot: &u32| {
            let index = u64::from_le_bytes(cases.image.get(*slot, at!(TreeHead.index)));
            let count = cases.image.shape.fanout().pow(u32::from(level) + 1);
            let mut chunks = index * count..(index + 1) * count;
            chunks.any(|chunk| cases.map.found.delta.get(chunk).is_none())
        };
        slots.find(is_read).unwrap()
    };
    let (leaf, above) = (read(0), read(1));
    let entry = size_of::<TreeHead>();
    let header = cases.map.found.superblock.file_slots.to_le_bytes();
    for (slot, own) in [(leaf, leaf.to_le_bytes()), (above, above.to_le_bytes())] {
        for (name, at, bytes) in [
            ("an entry's slot", entry, &MAX32[..]),
            ("an entry in a superblock", entry, &[9, 0, 0, 0]),
            ("an entry for a sibling's header", entry, &header),
            (
                "a checksum without a slot",
                entry,
                &[0, 0, 0, 0, 1, 2, 3, 4],
            ),
            ("level", at!(TreeHead.level), &[255]),
            ("index", at!(TreeHead.index), &MAX64),
            ("layer", at!(TreeHead.layer), &[9]),
            ("length", at!(Header.length), &MAX32),
            ("slot", at!(Header.slot), &MAX32),
        ] {
            cases.page_says(name, slot, (at, bytes), Unread);
        }
        cases.page_says("an entry for itself", slot, (entry, &own), Opens);
    }
    let second = entry + size_of::<RawEntry>();
    cases.change("one child twice", Opens, |image| {
        let child: [u8; 8] = image.get(above, entry);
        image.put(above, second, &child);
    });
}

fn end_of(image: &mut Image, last: u64) -> End {
    match opening::offline(image) {
        Err(Trouble::Refused(Refusal::Implausible(_))) => Implausible,
        Err(Trouble::Refused(Refusal::Shape(_))) => Shape,
        Err(Trouble::NoSuperblock) => NoSuperblock,
        Err(Trouble::Damaged { .. }) => Damaged,
        Err(Trouble::Truncated { .. }) => Truncated,
        Err(Trouble::Lost) => Lost,
        Err(other) => panic!("{other:?}"),
        Ok((found, reads)) => {
            let before = found.epoch < last;
            let unread = reads.iter().any(|(_, read)| read.is_err());
            opening::online(image, found, true);
            match (before, unread) {
                (true, _) => Before,
                (false, true) => Unread,
                (false, false) => Opens,
            }
        }
    }
}

#[test]
fn hostile_pages_with_right_checksums_are_refused_or_do_not_read() {
    let mut cases = Cases::new();
    let last = cases.map.found.epoch;
    superblocks(&mut cases);
    commit_pages(&mut cases);
    records(&mut cases);
    tree_pages(&mut cases);
    let mut wrong = Vec::new();
    for Case {
        name,
        mut image,
        end,
    } in cases.all
    {
        // A test prints only if it fails: the last name is what made it panic.
        println!("{name}");
        let found = end_of(&mut image, last);
        // What nobody needs may say anything.
        if found != end && !(end == Opens && matches!(found, Before | Unread)) {
            wrong.push(format!("{name}: {found:?}, not {end:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The test above once more, in 400 MB of address space, threads and binary included.
#[test]
fn hostile_pages_take_no_memory_to_speak_of() {
    let limited = "ulimit -v 400000 && exec \"$0\" --exact --test-threads=1 \
                   hostile::hostile_pages_with_right_checksums_are_refused_or_do_not_read";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}
