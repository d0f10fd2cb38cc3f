//! Files of a cowfile: laid out, grown, locked.

use super::*;
use crate::engine::cowfile::create::{Plan, create};
use crate::engine::cowfile::recover::recover;
use crate::engine::format::Shape;
use crate::engine::format::page;
use crate::engine::format::page::Origin;

const ORIGIN: Origin = Origin {
    store: [5; 16],
    incarnation: 1,
};

/// Files that are as small as they can be: both superblocks, and a little more.
const FILE_SLOTS: u32 = 2100;

/// A new cowfile of `slots` slots in `folder`.
fn make(folder: &Path, slots: u32) -> CowFiles {
    let mut files = CowFiles::create(&folder.join("a.cow")).unwrap();
    files.set_file_slots(FILE_SLOTS);
    files
        .grow(0, slots, ORIGIN, &mut |file, _| file.sync_all())
        .unwrap();
    let plan = Plan {
        origin: ORIGIN,
        shape: Shape::PRODUCT,
        device_bytes: 1 << 30,
        base_bytes: 1 << 30,
        max_slots: 1 << 18,
        grown_slots: slots,
        file_slots: FILE_SLOTS,
        description: Vec::new(),
    };
    create(&mut files, plan).unwrap();
    files
}

#[test]
fn slots_go_on_in_the_next_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = make(folder.path(), 4500);
    let content: Vec<u8> = (0..4 * CHUNK_LEN)
        .map(|at| u8::try_from(at / 16 % 251).unwrap())
        .collect();
    // Slot 2100 is a header, which nobody is given.
    let (before, behind) = content.split_at(2 * CHUNK_LEN);
    files.write(2098, before).unwrap();
    files.write(2101, behind).unwrap();
    files.sync().unwrap();
    drop(files);
    let len = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    assert_eq!(len("a.cow"), bytes(FILE_SLOTS));
    assert_eq!(len("a.cow.1"), bytes(FILE_SLOTS));
    assert_eq!(len("a.cow.2"), bytes(300));

    let mut files = CowFiles::open(&folder.path().join("a.cow"), Mode::Read).unwrap();
    let found = recover(&mut files, Shape::PRODUCT, None).unwrap();
    assert_eq!(found.superblock.grown_slots, 4500);
    assert_eq!(files.slots(), 4500);
    let mut read = vec![0; 5 * CHUNK_LEN];
    files.read(2098, &mut read).unwrap();
    assert!(read[..2 * CHUNK_LEN] == *before && read[3 * CHUNK_LEN..] == *behind);
    let beyond = files.read(4499, &mut read);
    assert_eq!(beyond, Err(Failure::Io), "it ends there");
}

#[test]
fn a_file_that_is_missing_short_or_of_another_cowfile_is_told() {
    let open = |folder: &Path| {
        let mut files = CowFiles::open(&folder.join("a.cow"), Mode::Read).unwrap();
        recover(&mut files, Shape::PRODUCT, None).map(drop)
    };
    let truncated = Err(Trouble::Truncated { slots: 4500 });
    for (what, expected) in [
        ("nothing", Ok(())),
        ("missing", truncated.clone()),
        ("short", truncated.clone()),
        ("foreign", Err(Trouble::ForeignSibling { number: 1 })),
        ("blank", Err(Trouble::DamagedSibling { number: 1 })),
        ("swapped", Err(Trouble::ForeignSibling { number: 1 })),
    ] {
        let folder = tempfile::tempdir().unwrap();
        drop(make(folder.path(), 4500));
        let path = |name: &str| folder.path().join(name);
        match what {
            "missing" => std::fs::remove_file(path("a.cow.1")).unwrap(),
            "short" => {
                let file = options(Mode::Write).open(path("a.cow.2")).unwrap();
                file.set_len(bytes(299)).unwrap();
            }
            "foreign" => std::fs::write(path("a.cow.1"), vec![7; 9_000_000]).unwrap(),
            "blank" => std::fs::write(path("a.cow.1"), vec![0xff; 9_000_000]).unwrap(),
            "swapped" => drop(std::fs::copy(path("a.cow.2"), path("a.cow.1")).unwrap()),
            _ => {}
        }
        assert_eq!(open(folder.path()), expected, "{what}");
    }
}

#[test]
fn what_a_cut_growth_left_is_grown_anew_and_what_is_not_ours_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    drop(make(folder.path(), 2090));
    let next = folder.path().join("a.cow.1");
    for (left, fine) in [
        (vec![], true),
        (vec![0; 4096], true),
        (vec![0; 5000], false),
        (page::sibling(ORIGIN, 1, FILE_SLOTS, CHUNK_LEN), true),
        (b"somebody's diary".to_vec(), false),
    ] {
        std::fs::write(&next, &left).unwrap();
        let mut files = CowFiles::open(&folder.path().join("a.cow"), Mode::Write).unwrap();
        recover(&mut files, Shape::PRODUCT, None).unwrap();
        let result = files.grow(2090, 2200, ORIGIN, &mut |file, _| file.sync_all());
        assert_eq!(result.is_ok(), fine, "{result:?}");
        if fine {
            assert_eq!(files.slots(), 2200);
        } else {
            assert_eq!(std::fs::read(&next).unwrap(), left);
        }
    }
}

#[test]
fn a_cowfile_in_use_is_refused_with_the_name_of_who_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.cow");
    let writer = make(folder.path(), 2090);
    for mode in [Mode::Read, Mode::Write] {
        let error = CowFiles::open(&path, mode).unwrap_err().to_string();
        // On some file systems the kernel's list of locks does not name the file as stat does.
        let who = format!("process {} (", std::process::id());
        assert!(
            error.starts_with("in use by ")
                && (error.contains(&who) || error.contains("another process")),
            "{error}"
        );
    }
    drop(writer);
    let readers = [Mode::Read, Mode::Read].map(|mode| CowFiles::open(&path, mode).unwrap());
    assert!(CowFiles::open(&path, Mode::Write).is_err());
    drop(readers);
    assert!(CowFiles::open(&path, Mode::Write).is_ok());
    let error = CowFiles::create(&path).unwrap_err().to_string();
    assert!(error.contains("left as it is"), "{error}");
}
