//! Which session takes the writes while another is merged, and afterwards.

use super::*;
use crate::engine::merge::undo::{Head, Log};
use crate::media::session;

/// As a boot with `cowroot.session=resume:main` does: who takes the writes then.
fn resumed(bench: &Bench) -> String {
    let wish = session::Wish::Resume(Some("main".to_owned()));
    let opened = cowfile::open(&bench.cow(), Mode::Write, None).unwrap();
    let opened = session::choose(&bench.cow(), opened, &wish).unwrap();
    session::active_name(&make_ready(&bench.cow(), opened).unwrap())
}

#[test]
fn a_session_is_resumed_by_its_name_while_it_is_merged_and_afterwards() {
    for frees in [true, false] {
        let mut bench = Bench::new(None);
        bench.serve(1, true);
        let mut opened = cowfile::open(&bench.cow(), Mode::Write, None).unwrap();
        let merge = Merge {
            frees,
            ..Merge::default()
        };
        merging::begin(&mut opened.files, &opened.found, merge).unwrap();
        drop(opened);
        for boot in 1..4 {
            assert_eq!(resumed(&bench), "main-on-top", "boot {boot}");
            bench.serve(boot, true);
        }
        bench.merge(&Wishes::default()).unwrap();
        assert_eq!(resumed(&bench), "main");
        assert!(bench.reads() == bench.device);
    }
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    let log = bench.path("old");
    bench
        .merge(&Wishes {
            log: Some(&log),
            ..Wishes::default()
        })
        .unwrap();
    undo::undo(&log, None, Whose::Merged, &mut |_, _, _| {}).unwrap();
    assert_eq!(resumed(&bench), "main-on-top", "what was merged is back");
    assert!(bench.reads() == bench.device);
}

#[test]
fn a_merge_whose_undo_log_is_lost_goes_on_without_where_that_is_asked_for() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    let mut opened = cowfile::open(&bench.cow(), Mode::Write, None).unwrap();
    let merge = Merge {
        is_logged: true,
        id: 7,
        ..Merge::default()
    };
    merging::begin(&mut opened.files, &opened.found, merge).unwrap();
    let head = Head {
        store: opened.found.superblock.origin.store,
        id: merge.id,
        chunk_shift: 12,
        base_bytes: 8 << 20,
        description: opened.found.superblock.description.clone(),
        paths: format!("{}\0{}\0", bench.base().display(), bench.cow().display()).into_bytes(),
    };
    drop(opened);
    let log = bench.path("turned-up");
    let base = fs::File::open(bench.base()).unwrap();
    let mut file = Target::new_own(&log, &base).unwrap();
    Log::create(&mut file, head).unwrap();
    drop((base, file));
    let says = bench.refused(&Wishes::default());
    assert!(says.contains("--without-undo-log goes on"), "{says}");
    let says = format!("{:#}", due(&bench.cow(), false).unwrap_err());
    assert!(says.contains("--without-undo-log"), "{says}");

    let without = Wishes {
        without_log: true,
        ..Wishes::default()
    };
    // Begun, and cut again: from now on a boot goes on by itself, and the log, should it turn up, does not fit.
    let mut both = open_with(&bench.cow(), &bench.base(), &without, Mode::Write).unwrap();
    merging::begin(&mut both.opened.files, &both.opened.found, both.merge).unwrap();
    drop(both);
    assert!(due(&bench.cow(), false).unwrap().is_some());
    let says = bench.refused(&Wishes {
        log: Some(&log),
        ..Wishes::default()
    });
    assert!(says.contains("goes on without an undo log"), "{says}");
    for whose in [Whose::At(&bench.cow()), Whose::Merged, Whose::Nobody] {
        let says = undo::undo(&log, None, whose, &mut |_, _, _| {});
        let says = format!("{:#}", says.unwrap_err());
        assert!(says.contains("went on without it"), "{says}");
        assert!(!says.contains("base alone"), "{says}");
    }
    bench.merge(&without).unwrap();
    assert!(fs::read(bench.base()).unwrap() == bench.device);
}

#[test]
fn what_a_merge_kept_goes_where_every_session_ends_with_the_power_too() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    bench.merge(&Wishes::default()).unwrap();
    let kept = |bench: &Bench| {
        let opened = cowfile::open(&bench.cow(), Mode::Read, None).unwrap();
        let layers = opened.found.superblock.layers.iter().flatten().count();
        assert_eq!(opened.description.layers.len(), layers, "each has a name");
        opened.found.superblock.merge.kept
    };
    assert_ne!(kept(&bench), 0);
    bench.serve(2, false);
    let len = || fs::metadata(bench.cow()).unwrap().len();
    let (before, opened) = (len(), cowfile::open(&bench.cow(), Mode::Write, None));
    drop(make_ready(&bench.cow(), opened.unwrap()).unwrap());
    assert_eq!(kept(&bench), 0, "one session was served over it");
    assert_eq!(len(), before, "a boot does not wait for a file to grow");
    assert!(bench.reads() == bench.device);
}
