//! Undos of whole merges whose cowfile, base or requests are no longer as they were.

use super::*;
use crate::media::session::{self, Action};

/// A session that was merged with an undo log, with wishes of this kind: the bench, its log, and the base before.
fn merged(frees: bool) -> (Bench, PathBuf, Vec<u8>) {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    let (log, old) = (bench.path("old"), fs::read(bench.base()).unwrap());
    let wishes = Wishes {
        log: Some(&log),
        frees,
        ..Wishes::default()
    };
    bench.merge(&wishes).unwrap();
    (bench, log, old)
}

fn undone(log: &Path, whose: Whose<'_>) -> Result<Undone, String> {
    undo(log, None, whose, &mut |_, _, _| {}).map_err(|error| format!("{error:#}"))
}

fn change(bench: &Bench, action: &Action<'_>) {
    let opened = cowfile::open(&bench.cow(), Mode::Write, None).unwrap();
    session::change(&bench.cow(), opened, action).unwrap();
}

#[test]
fn an_undo_does_not_go_by_what_was_asked_for_since() {
    for drops in [true, false] {
        let (mut bench, log, old) = merged(false);
        change(&bench, &Action::New(Some("later"), None));
        ask(&bench.cow(), None, Some(true)).unwrap();
        if drops {
            change(&bench, &Action::RollBack);
        } else {
            bench.serve(2, true);
        }
        undone(&log, Whose::Merged).unwrap();
        assert!(fs::read(bench.base()).unwrap() == old);
        assert!(bench.reads() == bench.device, "the session is there again");
    }
    // Cut in the middle, it says which layers went back, and no others.
    let (bench, log, _) = merged(false);
    change(&bench, &Action::New(Some("later"), None));
    ask(&bench.cow(), None, Some(true)).unwrap();
    let mut opened = cowfile::open(&bench.cow(), Mode::Write, None).unwrap();
    let description = opened.found.superblock.description.clone();
    merging::begin_undo(&mut opened.files, &opened.found, 8 << 20, description).unwrap();
    drop(opened);
    let opened = cowfile::open(&bench.cow(), Mode::Read, None).unwrap();
    let merge = opened.found.superblock.merge;
    assert_eq!((merge.top, merge.frees, merge.served), (0, false, false));
    drop(opened);
    undone(&log, Whose::Merged).unwrap();
}

#[test]
fn a_session_that_cannot_go_back_whole_leaves_the_base_as_it_is() {
    let (bench, log, _) = merged(false);
    let base = fs::read(bench.base()).unwrap();
    let mut cow = fs::read(bench.cow()).unwrap();
    let at = (8 << 20) + cow[8 << 20..].iter().position(|byte| *byte != 0).unwrap();
    cow[at + 4096 * 40] ^= 1;
    fs::write(bench.cow(), &cow).unwrap();
    let says = undone(&log, Whose::Merged).unwrap_err();
    assert!(says.contains("damaged at bytes"), "{says}");
    assert!(says.contains("nothing was changed"), "{says}");
    assert!(fs::read(bench.base()).unwrap() == base);
    assert!(fs::read(bench.cow()).unwrap() == cow);
}

#[test]
fn a_base_is_put_back_alone_only_where_that_is_asked_for() {
    let (bench, log, old) = merged(false);
    let new = fs::read(bench.base()).unwrap();
    // Renamed, in the same folder.
    let moved = bench.path("moved.cow");
    fs::rename(bench.cow(), &moved).unwrap();
    let says = undone(&log, Whose::Merged).unwrap_err();
    assert!(says.contains("its cowfile is not"), "{says}");
    assert!(says.contains("--without-cowfile"), "{says}");
    assert!(fs::read(bench.base()).unwrap() == new);
    // A copy of it stands on the merged base as well.
    let copy = bench.path("copy.cow");
    fs::copy(&moved, &copy).unwrap();
    let says = undone(&log, Whose::At(&moved)).unwrap_err();
    assert!(says.contains("copy.cow"), "{says}");
    fs::remove_file(copy).unwrap();
    undone(&log, Whose::At(&moved)).unwrap();
    assert!(fs::read(bench.base()).unwrap() == old);
    fs::rename(&moved, bench.cow()).unwrap();
    assert!(bench.reads() == bench.device);

    // What is over the merged base would be lost, in whichever session it is.
    let (mut bench, log, old) = merged(true);
    let named = undone(&log, Whose::At(&bench.cow())).unwrap_err();
    assert!(named.contains("was dropped"), "{named}");
    bench.serve(2, true);
    for goes_on_base in [false, true] {
        if goes_on_base {
            change(&bench, &Action::New(Some("empty"), Some(session::BASE)));
        }
        for whose in [Whose::Merged, Whose::At(&bench.cow())] {
            let says = undone(&log, whose).unwrap_err();
            assert!(
                says.contains("has a session over the merged base"),
                "{says}"
            );
        }
    }
    // Another cowfile that stands on it, too.
    let other = bench.path("other.cow");
    let of = Base::open(&bench.base()).unwrap();
    let wishes = create::Wishes {
        max_bytes: Some(32 << 20),
        ..create::Wishes::default()
    };
    create(&other, &of, &wishes, &mut |_, _| {}).unwrap();
    drop(of);
    let says = undone(&log, Whose::Nobody).unwrap_err();
    assert!(says.contains("other.cow"), "{says}");
    fs::remove_file(other).unwrap();
    let undone = undone(&log, Whose::Nobody).unwrap();
    assert_eq!(undone.cowfile, None);
    assert!(fs::read(bench.base()).unwrap() == old);
}

#[test]
fn a_session_that_changed_nothing_is_not_merged_and_what_is_kept_stays() {
    let (bench, log, old) = merged(false);
    let cow = fs::read(bench.cow()).unwrap();
    let report = bench.merge(&Wishes::default()).unwrap();
    assert!(report.is_nothing());
    assert!(fs::read(bench.cow()).unwrap() == cow);
    // Asked for, it is done.
    ask(&bench.cow(), None, Some(false)).unwrap();
    assert!(due(&bench.cow(), false).unwrap().is_some());
    assert!(bench.merge(&Wishes::default()).unwrap().is_nothing());
    assert_eq!(due(&bench.cow(), false).unwrap(), None);
    undone(&log, Whose::Merged).unwrap();
    assert!(fs::read(bench.base()).unwrap() == old);
    assert!(bench.reads() == bench.device);
}

#[test]
fn a_merge_that_goes_on_does_with_its_layers_as_it_was_begun() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    let mut opened = cowfile::open(&bench.cow(), Mode::Write, None).unwrap();
    let merge = Merge {
        frees: true,
        ..Merge::default()
    };
    merging::begin(&mut opened.files, &opened.found, merge).unwrap();
    drop(opened);
    let report = bench.merge(&Wishes::default()).unwrap();
    assert!(report.frees && report.is_resumed);
}
