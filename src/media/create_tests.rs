//! New cowfiles: what they are, and what is left alone where none can be made.

use super::*;
use crate::disk::cowfile::Mode;
use crate::media::cowfile::open;
use std::path::PathBuf;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(place.path("base"), vec![3; 900_000]).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn base(&self) -> Base {
        Base::open(&self.path("base")).unwrap()
    }

    fn create(&self, wishes: &Wishes) -> Result<Created, String> {
        let made = create(&self.path("a.cow"), &self.base(), wishes, &mut |_, _| {});
        made.map_err(|error| format!("{error:#}"))
    }

    fn len(&self, name: &str) -> Option<u64> {
        let found = std::fs::metadata(self.path(name));
        found.ok().map(|metadata| metadata.len())
    }
}

#[test]
fn a_new_cowfile_opens_for_its_base_and_is_as_large_as_was_wished() {
    let mib = |count: u64| count << 20;
    for (wishes, device, max, grown, files) in [
        (Wishes::default(), 900_096, mib(256), mib(20), vec![mib(20)]),
        (
            Wishes {
                name: Some("mine".into()),
                max_bytes: Some(mib(64) + 5),
                preallocated_bytes: Some(u64::MAX),
                device_bytes: Some(mib(8)),
                file_bytes: Some(mib(40)),
            },
            mib(8),
            mib(64),
            mib(64),
            vec![mib(40), mib(24)],
        ),
    ] {
        let place = Place::new();
        place.create(&wishes).unwrap();
        let opened = open(&place.path("a.cow"), Mode::Write, Some(&place.base())).unwrap();
        let superblock = &opened.found.superblock;
        let bytes = |slots| Shape::PRODUCT.offset_bytes(slots);
        assert_eq!(superblock.device_bytes, device);
        assert_eq!(bytes(superblock.max_slots), max);
        assert_eq!(bytes(superblock.grown_slots), grown);
        assert_eq!(opened.description.name, wishes.name.unwrap_or("a".into()));
        assert_eq!(opened.description.layers.len(), 1);
        let names = ["a.cow", "a.cow.1", "a.cow.2"].map(|name| place.len(name));
        assert_eq!(names.into_iter().flatten().collect::<Vec<_>>(), files);
    }
}

#[test]
fn where_none_can_be_made_nothing_is_left_and_nothing_is_touched() {
    let with = |change: fn(&mut Wishes)| {
        let mut wishes = Wishes::default();
        change(&mut wishes);
        wishes
    };
    for (wishes, says) in [
        (
            with(|wishes| wishes.max_bytes = Some(1 << 20)),
            "--max-size: 1 MiB is not from 20 MiB to",
        ),
        (
            with(|wishes| wishes.file_bytes = Some(1 << 60)),
            "--file-size: 1048576 TiB is not",
        ),
        (
            with(|wishes| wishes.preallocated_bytes = Some(1)),
            "--preallocate: 1 bytes is not",
        ),
        (
            with(|wishes| wishes.device_bytes = Some(4096)),
            "fewer than the base has (900000)",
        ),
        (
            with(|wishes| wishes.name = Some("x".repeat(65))),
            "the cowfile's name: too long",
        ),
    ] {
        let place = Place::new();
        let error = place.create(&wishes).unwrap_err();
        assert!(
            error.starts_with("creating cowfile '") && error.contains(says),
            "{error}"
        );
        assert_eq!(place.len("a.cow"), None, "{says}");
    }
    let place = Place::new();
    std::fs::write(place.path("a.cow"), "a diary").unwrap();
    let error = place.create(&Wishes::default()).unwrap_err();
    assert!(error.contains("left as it is"), "{error}");
    assert_eq!(std::fs::read(place.path("a.cow")).unwrap(), b"a diary");
}

#[test]
fn a_sibling_that_is_somebody_elses_is_kept_and_the_rest_is_taken_back() {
    let place = Place::new();
    std::fs::write(place.path("a.cow.1"), "a diary").unwrap();
    let wishes = Wishes {
        file_bytes: Some(40 << 20),
        ..Wishes::default()
    };
    let error = place.create(&wishes).unwrap_err();
    assert!(
        error.contains("'.1' behind, where it would go on"),
        "{error}"
    );
    assert_eq!(place.len("a.cow"), None);
    assert_eq!(std::fs::read(place.path("a.cow.1")).unwrap(), b"a diary");
}
