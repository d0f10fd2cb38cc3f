//! Opening a cowfile for its base, and refusing those that are not right.

use super::*;
use crate::engine::cowfile::create::{Plan, create};
use crate::engine::format::page::{self, Origin};
use crate::engine::format::superblock::{HEAD_LEN, Superblock};
use std::fs::OpenOptions;
use std::path::PathBuf;

const ORIGIN: Origin = Origin {
    store: [5; 16],
    incarnation: 1,
};

/// A base, and a cowfile made for it, in a folder of their own.
struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = Self { folder };
        let bytes: Vec<u8> = (0..900_000u32)
            .map(|at| u8::try_from(at / 4096).unwrap())
            .collect();
        std::fs::write(pair.path("base"), bytes).unwrap();
        let description = Description {
            name: "a".into(),
            made_s: 1,
            made_by: "test".into(),
            base: identify(&pair.base(), ORIGIN.store).unwrap(),
            layers: Vec::new(),
            history: Vec::new(),
        };
        let slots = Shape::PRODUCT.first_slot() + 8;
        let mut files = CowFiles::create(&pair.path("a.cow")).unwrap();
        files
            .grow(0, slots, ORIGIN, &mut |file, _| file.sync_all())
            .unwrap();
        let plan = Plan {
            origin: ORIGIN,
            shape: Shape::PRODUCT,
            device_bytes: 901_120,
            base_bytes: 900_000,
            max_slots: 1 << 16,
            grown_slots: slots,
            file_slots: 1 << 18,
            description: description.encode(1 << 20).unwrap(),
        };
        create(&mut files, plan).unwrap();
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn base(&self) -> Base {
        Base::open(&self.path("base")).unwrap()
    }

    fn open(&self, mode: Mode) -> Result<Opened, String> {
        open(&self.path("a.cow"), mode, Some(&self.base())).map_err(|error| format!("{error:#}"))
    }

    fn write(&self, name: &str, at: u64, bytes: &[u8]) {
        let file = OpenOptions::new()
            .write(true)
            .open(self.path(name))
            .unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    /// Write both superblocks again, changed.
    fn change(&self, change: impl Fn(&mut Superblock)) {
        let found = self.open(Mode::Read).unwrap().found;
        for step in [0, 1] {
            let mut superblock = found.superblock.clone();
            superblock.generation += step;
            change(&mut superblock);
            let mut bytes = vec![0; superblock.len().next_multiple_of(CHUNK_LEN)];
            superblock.encode(&mut bytes);
            self.write("a.cow", u64::from(superblock.slot()) * CHUNK_BYTES, &bytes);
        }
    }

    /// Let both superblocks be of this version of the format.
    fn change_version(&self, version: u16) {
        for slot in [0, u64::from(Shape::PRODUCT.zone_slots)] {
            let file = OpenOptions::new()
                .read(true)
                .open(self.path("a.cow"))
                .unwrap();
            let mut head = vec![0; HEAD_LEN];
            file.read_exact_at(&mut head, slot * CHUNK_BYTES).unwrap();
            head[10..12].copy_from_slice(&version.to_le_bytes());
            page::seal(&mut head);
            self.write("a.cow", slot * CHUNK_BYTES, &head);
        }
    }
}

#[test]
fn a_cowfile_is_opened_for_its_base() {
    let pair = Pair::new();
    let opened = pair.open(Mode::Write).unwrap();
    assert_eq!(opened.description.name, "a");
    assert_eq!(opened.description.base.samples.len(), 64);
}

/// What is done to a pair, and what must be said of it then.
type Case = (fn(&Pair), &'static str);

#[test]
fn what_is_not_the_right_cowfile_is_refused_and_it_says_why() {
    refused(&[
        (
            |pair| std::fs::remove_file(pair.path("a.cow")).unwrap(),
            "No such file",
        ),
        (
            |pair| std::fs::write(pair.path("a.cow"), "a diary").unwrap(),
            "not a cowfile; is it the file that was meant?",
        ),
        (
            |pair| {
                let file = OpenOptions::new()
                    .write(true)
                    .open(pair.path("a.cow"))
                    .unwrap();
                file.set_len(Shape::PRODUCT.offset_bytes(2050)).unwrap();
            },
            "was it copied whole",
        ),
        (
            |pair| pair.change_version(2),
            "its format has version 2, this one reads 1; open it with that version",
        ),
        (
            |pair| pair.change(|superblock| superblock.features.incompat |= 1),
            "made by a newer cowroot: it uses compressed slots",
        ),
        (
            |pair| pair.change(|superblock| superblock.features.ro_compat |= 1 << 9),
            "attach it read-only",
        ),
        (
            |pair| {
                for slot in [0, 1024] {
                    pair.write("a.cow", slot * CHUNK_BYTES + 100, &[0x55; 9]);
                }
            },
            "neither copy of its superblock is whole",
        ),
    ]);
}

#[test]
fn what_was_made_for_another_base_or_is_none_is_refused() {
    refused(&[
        (
            |pair| pair.write("base", 0, b"other"),
            "sampled chunks differ; use the base it was made for (boot the old medium), start a new session with a new \
             cowfile, or carry the files over with `cowroot diff --tar`",
        ),
        (
            |pair| {
                let file = OpenOptions::new()
                    .write(true)
                    .open(pair.path("base"))
                    .unwrap();
                file.set_len(899_999).unwrap();
            },
            "its size is 899999 bytes, not 900000",
        ),
        (
            |pair| {
                drop(
                    std::fs::remove_file(pair.path("a.cow"))
                        .and_then(|()| std::fs::create_dir(pair.path("a.cow"))),
                )
            },
            "neither a regular file nor a block device",
        ),
    ]);
}

/// Each must be refused, in these words, and nothing be written.
fn refused(cases: &[Case]) {
    for (spoil, says) in cases {
        let pair = Pair::new();
        spoil(&pair);
        let before = std::fs::read(pair.path("a.cow")).ok();
        let error = pair.open(Mode::Write).unwrap_err();
        let opening = format!("opening cowfile '{}'", pair.path("a.cow").display());
        assert!(
            error.starts_with(&opening) && error.contains(says),
            "{says}: {error}"
        );
        assert_eq!(
            std::fs::read(pair.path("a.cow")).ok(),
            before,
            "{says}: it was written"
        );
    }
}

#[test]
fn a_cowfile_that_only_a_newer_program_may_write_can_be_read() {
    let pair = Pair::new();
    pair.change(|superblock| superblock.features.ro_compat |= 1 << 9);
    assert!(pair.open(Mode::Read).is_ok());
}
