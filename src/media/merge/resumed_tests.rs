//! Which session takes the writes while another is merged, and afterwards.

use super::*;
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
    undo::undo(&log, None, None, &mut |_, _, _| {}).unwrap();
    assert_eq!(resumed(&bench), "main-on-top", "what was merged is back");
    assert!(bench.reads() == bench.device);
}
