//! What is not merged, or not taken back, and what is said then.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn an_undo_is_refused_where_it_would_mix_bases() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    let log = bench.path("undo");
    let wishes = Wishes {
        log: Some(&log),
        frees: true,
        ..Wishes::default()
    };
    bench.merge(&wishes).unwrap();
    bench.serve(2, true);
    let again = bench.refused(&wishes);
    assert!(
        again.contains("there is something of that name already"),
        "{again}"
    );
    let says = |base: Option<&Path>| {
        format!(
            "{:#}",
            undo(&log, base, Whose::Merged, &mut |_, _, _| {}).unwrap_err()
        )
    };
    let other = bench.path("other.img");
    fs::write(&other, vec![7; 8 * MIB]).unwrap();
    assert!(says(Some(&other)).contains("not the base of that merge"));
    fs::write(&other, vec![7; 8 * MIB + 512]).unwrap();
    assert!(says(Some(&other)).contains("neither before nor after"));
    let mut bytes = fs::read(&log).unwrap();
    bytes[9000] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let damaged = says(None);
    assert!(damaged.contains("damaged"), "{damaged}");
    bytes[100] ^= 1;
    fs::write(&log, &bytes).unwrap();
    assert!(says(None).contains("no undo log"));
}

#[test]
fn what_is_not_to_be_merged_is_refused_and_nothing_is_changed() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    let (base, cow) = (
        fs::read(bench.base()).unwrap(),
        fs::read(bench.cow()).unwrap(),
    );
    let plain = Wishes::default();

    // In use by a session.
    let user = Base::open(&bench.base()).unwrap();
    let says = bench.refused(&plain);
    assert!(says.contains("in use by"), "{says}");
    drop(user);
    // Open in some other program.
    let user = fs::File::open(bench.base()).unwrap();
    let says = bench.refused(&plain);
    assert!(says.contains("another program has it open"), "{says}");
    drop(user);
    // While it is merged into, nobody takes it for a base.
    let target = Target::base(&bench.base()).unwrap();
    let says = format!("{:#}", Base::open(&bench.base()).unwrap_err());
    assert!(says.contains("a merge into it"), "{says}");
    drop(target);
    // A cowfile in use.
    let user = cowfile::open(&bench.cow(), Mode::Read, None).unwrap();
    let says = bench.refused(&plain);
    assert!(says.contains("in use by"), "{says}");
    drop(user);
    // Another cowfile beside it.
    let other = bench.path("other.cow");
    let wishes = create::Wishes {
        max_bytes: Some(32 << 20),
        ..create::Wishes::default()
    };
    let of = Base::open(&bench.base()).unwrap();
    create(&other, &of, &wishes, &mut |_, _| {}).unwrap();
    drop(of);
    let says = bench.refused(&plain);
    assert!(
        says.contains("other cowfiles depend") && says.contains("other.cow"),
        "{says}"
    );
    fs::remove_file(other).unwrap();
    // Another base.
    let mut changed = base.clone();
    changed[0] ^= 1;
    fs::write(bench.base(), &changed).unwrap();
    let says = bench.refused(&plain);
    assert!(says.contains("made for another base"), "{says}");
    fs::write(bench.base(), &base).unwrap();
    // A damaged session: its chunks begin behind the superblocks.
    let mut damaged = cow.clone();
    let at = (8 << 20)
        + damaged[8 << 20..]
            .iter()
            .position(|byte| *byte != 0)
            .unwrap();
    damaged[at + 4096 * 40] ^= 1;
    fs::write(bench.cow(), &damaged).unwrap();
    let says = bench.refused(&plain);
    assert!(says.contains("the session is damaged at bytes"), "{says}");
    fs::write(bench.cow(), &cow).unwrap();

    assert!(fs::read(bench.base()).unwrap() == base && fs::read(bench.cow()).unwrap() == cow);
    let tried = try_into_base(&bench.cow(), &bench.base(), &plain, &mut |_, _, _| {}).unwrap();
    assert!(tried.totals.data_chunks > 100);
    assert!(fs::read(bench.base()).unwrap() == base && fs::read(bench.cow()).unwrap() == cow);
    bench.merge(&plain).unwrap();
}

#[test]
fn an_undo_is_refused_after_a_later_merge_and_not_after_a_request() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    let old = fs::read(bench.base()).unwrap();
    let log = bench.path("undo");
    let logged = Wishes {
        log: Some(&log),
        ..Wishes::default()
    };
    bench.merge(&logged).unwrap();
    bench.serve(2, true);
    // Asked for and cancelled: what is kept is known all the same.
    ask(&bench.cow(), None, Some(false)).unwrap();
    ask(&bench.cow(), None, None).unwrap();
    let undone = undo(&log, None, Whose::Merged, &mut |_, _, _| {}).unwrap();
    assert!(undone.cowfile.is_some());
    assert!(fs::read(bench.base()).unwrap() == old);
    assert!(bench.reads() == bench.device);

    fs::remove_file(&log).unwrap();
    bench.merge(&logged).unwrap();
    bench.serve(3, true);
    bench.merge(&Wishes::default()).unwrap();
    let merged = fs::read(bench.base()).unwrap();
    let refused = undo(&log, None, Whose::Merged, &mut |_, _, _| {}).unwrap_err();
    let refused = format!("{refused:#}");
    assert!(
        refused.contains("merged again since") || refused.contains("changed since"),
        "{refused}"
    );
    assert!(
        fs::read(bench.base()).unwrap() == merged,
        "nothing was written"
    );
    assert!(bench.reads() == bench.device);
}

#[test]
fn a_merge_that_could_not_be_served_midway_is_refused() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    (1..63).for_each(|_| bench.seal());
    // Stopped in the middle with one place left: it is served, and goes on.
    let mut opened = cowfile::open(&bench.cow(), Mode::Write, None).unwrap();
    let top = opened.found.superblock.active_layer;
    let merge = Merge {
        top,
        frees: true,
        ..Merge::default()
    };
    merging::begin(&mut opened.files, &opened.found, merge).unwrap();
    drop(opened);
    bench.serve(2, true);
    let midway = cowfile::open(&bench.cow(), Mode::Read, None).unwrap();
    assert_ne!(midway.found.superblock.active_layer, top);
    drop(midway);
    assert!(bench.reads() == bench.device);
    bench.merge(&Wishes::default()).unwrap();
    assert!(bench.reads() == bench.device);

    // With none left it is not begun, offline or at the next boot.
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    (1..63).for_each(|_| bench.seal());
    bench.seal();
    for frees in [true, false] {
        let wishes = Wishes {
            frees,
            ..Wishes::default()
        };
        let says = bench.refused(&wishes);
        assert!(says.contains("all layers of the cowfile"), "{says}");
    }
    let says = ask(&bench.cow(), None, Some(true)).unwrap_err();
    assert!(format!("{says:#}").contains("all layers of the cowfile"));
    let below = Wishes {
        up_to: Some("62"),
        ..Wishes::default()
    };
    bench.merge(&below).unwrap();
    assert!(bench.reads() == bench.device);
}

#[test]
fn damage_that_is_found_midway_is_told_with_what_can_be_done_then() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    let mut opened = cowfile::open(&bench.cow(), Mode::Write, None).unwrap();
    let top = opened.found.superblock.active_layer;
    let cow = fs::read(bench.cow()).unwrap();
    let at = (8 << 20) + cow[8 << 20..].iter().position(|byte| *byte != 0).unwrap();
    for (is_begun, is_logged, advice) in [
        (false, false, "and nothing was changed"),
        (true, false, "old or merged"),
        (true, true, "`cowroot merge --undo` puts the base back"),
    ] {
        if is_begun {
            let merge = Merge {
                top,
                is_logged,
                ..Merge::default()
            };
            merging::begin(&mut opened.files, &opened.found, merge).unwrap();
        }
        let mut damaged = fs::read(bench.cow()).unwrap();
        damaged[at + 4096 * 40] ^= 1;
        drop(opened);
        fs::write(bench.cow(), &damaged).unwrap();
        let error = bench.merge(&Wishes::default()).unwrap_err();
        let damage = error.downcast_ref::<Damage>().expect("damage");
        assert_eq!(damage.stretches.len(), 1);
        let says = format!("{error:#}");
        assert!(says.contains(advice), "{says}");
        assert_eq!(says.contains("nothing was changed"), !is_begun, "{says}");
        fs::write(bench.cow(), &cow).unwrap();
        opened = cowfile::open(&bench.cow(), Mode::Write, None).unwrap();
    }
}

#[test]
fn a_list_that_may_not_be_whole_says_so() {
    let stretches: Vec<(u64, u64)> = (0..9).map(|number| (number * 2, number * 2 + 1)).collect();
    let says = |is_all| Damage::of(&stretches, is_all, None).to_string();
    assert!(says(true).contains("bytes 0 to 4096, bytes 8192 to 12288"));
    assert!(says(true).contains("and 5 more stretches of the device"));
    assert!(!says(true).contains("there may be more"));
    assert!(says(false).contains("there may be more"));
}

#[test]
fn a_new_image_and_a_log_take_no_name_of_somebody_else_and_show_the_base_to_nobody_else() {
    let mut bench = Bench::new(None);
    bench.serve(1, true);
    let only_mine = fs::Permissions::from_mode(0o600);
    fs::set_permissions(bench.base(), only_mine).unwrap();
    let (new, log) = (bench.path("new.img"), bench.path("log"));
    let made = |is_tried| {
        let wishes = (&Wishes::default(), is_tried);
        output(&bench.cow(), &bench.base(), &new, wishes, &mut |_, _, _| {})
    };
    let mine = bench.path("new.img.part");
    fs::write(&mine, "mine").unwrap();
    let link = bench.path("new.img.cowroot-part");
    std::os::unix::fs::symlink(&mine, &link).unwrap();
    for is_tried in [true, false] {
        let says = format!("{:#}", made(is_tried).unwrap_err());
        assert!(says.contains("not a file that was begun"), "{says}");
    }
    fs::remove_file(&link).unwrap();
    made(true).unwrap();
    assert!(!new.exists());
    made(false).unwrap();
    assert_eq!(fs::read(&mine).unwrap(), b"mine");

    let wishes = Wishes {
        log: Some(&log),
        ..Wishes::default()
    };
    fs::write(&log, "mine").unwrap();
    let tried = || try_into_base(&bench.cow(), &bench.base(), &wishes, &mut |_, _, _| {});
    let says = format!("{:#}", tried().unwrap_err());
    assert!(says.contains("something of that name"), "{says}");
    fs::remove_file(&log).unwrap();
    tried().unwrap();
    assert!(!log.exists(), "it is only looked");
    bench.merge(&wishes).unwrap();
    for made in [&new, &log] {
        let mode = fs::metadata(made).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", made.display());
    }
}

#[test]
fn a_log_that_another_merge_may_have_begun_with_is_not_taken() {
    let mut first = Bench::new(None);
    first.serve(1, true);
    let log = first.path("log");
    let wishes = Wishes {
        log: Some(&log),
        ..Wishes::default()
    };
    // Cut before anything was overwritten.
    let both = open_with(&first.cow(), &first.base(), &wishes, Mode::Write).unwrap();
    let report = Report {
        sessions: Vec::new(),
        totals: Totals::default(),
        base_bytes: (8 << 20, 8 << 20),
        is_resumed: false,
        is_partial: false,
        frees: false,
    };
    let begin = || undo::log_for(&both, (&first.cow(), &first.base()), &wishes, &report);
    begin().unwrap().expect("a log");
    begin().unwrap().expect("the same again");
    drop(both);
    let begun = fs::read(&log).unwrap();
    let mut second = Bench::new(None);
    second.serve(1, true);
    let says = second.refused(&wishes);
    assert!(says.contains("something of that name"), "{says}");
    assert!(fs::read(&log).unwrap() == begun);
}
