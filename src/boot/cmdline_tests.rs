//! The command line: as the kernel splits it, and as DESIGN means it.

use super::*;
use crate::media::open::TmpfsSize;

fn problems(text: &str) -> Vec<String> {
    Plan::parse(text).unwrap_err().0
}

#[test]
fn words_are_split_as_the_kernel_splits_them() {
    for (text, words, init_args) in [
        ("a b=c", vec![("a", None), ("b", Some("c"))], vec![]),
        (" a\tb\n", vec![("a", None), ("b", None)], vec![]),
        ("a=\"b c\" d", vec![("a", Some("b c")), ("d", None)], vec![]),
        ("\"a=b c\" d", vec![("a", Some("b c")), ("d", None)], vec![]),
        ("a=b=c", vec![("a", Some("b=c"))], vec![]),
        ("a=", vec![("a", Some(""))], vec![]),
        ("a=\"b c", vec![("a", Some("b c"))], vec![]),
        ("a=b\" \"c", vec![("a", Some("b\" \"c"))], vec![]),
        (
            "a -- b c=\"d e\"",
            vec![("a", None)],
            vec!["b", "c=\"d e\""],
        ),
        (
            "a --b -- -- c",
            vec![("a", None), ("--b", None)],
            vec!["--", "c"],
        ),
        ("", vec![], vec![]),
    ] {
        let line = split(text);
        let found: Vec<_> = line
            .words
            .iter()
            .map(|word| (word.name.as_str(), word.value.as_deref()))
            .collect();
        assert_eq!(found, words, "{text}");
        assert_eq!(line.init_args, init_args, "{text}");
    }
}

#[test]
fn a_line_with_the_base_alone_gets_the_defaults() {
    let plan = Plan::parse("quiet cowroot=LABEL=LIVE:/live/root.img").unwrap();
    assert_eq!(plan.base.to_string(), "LABEL=LIVE:/live/root.img");
    assert_eq!(plan.cow, Cow::Tmpfs(TmpfsSize::Percent(50)));
    assert_eq!(plan.wait, Duration::from_secs(30));
    assert_eq!((plan.debug, plan.root), (false, RootWords::default()));
}

#[test]
fn every_word_reaches_its_field() {
    let plan = Plan::parse(
        "BOOT_IMAGE=/vmlinuz root=/dev/ram0 rd.break ro cowroot=\"LABEL=MY DISK:/r\" \
         cowroot.cow=tmpfs:64M cowroot.wait=5 cowroot.debug rootfstype=ext4 \
         rootflags=noatime,data=ordered init=/bin/bash cowroot.onfull=error \
         cowroot.fallback=fail cowroot.merge=no cowroot.durability=flush \
         -- cowroot.bogus single",
    )
    .unwrap();
    assert_eq!(plan.base.to_string(), "LABEL=MY DISK:/r");
    assert_eq!(plan.cow, Cow::Tmpfs(TmpfsSize::Bytes(64 << 20)));
    assert_eq!((plan.wait, plan.debug), (Duration::from_secs(5), true));
    assert_eq!(plan.merge, MergePolicy::No);
    let root = RootWords {
        kind: Some("ext4".into()),
        options: Some("noatime,data=ordered".into()),
        read_only: true,
        init: Some("/bin/bash".into()),
        init_args: vec!["cowroot.bogus".into(), "single".into()],
    };
    assert_eq!(plan.root, root);
}

#[test]
fn a_session_is_one_of_a_cowfile() {
    let on = "cowroot=/dev/sr0:/r cowroot.cow=LABEL=C:/a.cow";
    for (word, wish) in [
        ("", Wish::Resume(None)),
        ("cowroot.session=resume", Wish::Resume(None)),
        ("cowroot.session=resume:a", Wish::Resume(Some("a".into()))),
        ("cowroot.session=new:a", Wish::New(Some("a".into()))),
        ("cowroot.session=throwaway", Wish::Throwaway),
    ] {
        assert_eq!(Plan::parse(&format!("{on} {word}")).unwrap().session, wish);
    }
    for on in ["", "cowroot.cow=tmpfs:64M"] {
        let line = |wish| format!("cowroot=/dev/sr0:/r {on} cowroot.session={wish}");
        assert!(Plan::parse(&line("resume")).is_ok());
        let found = problems(&line("throwaway"));
        assert!(found[0].contains("needs a cowfile"), "{found:#?}");
    }
}

#[test]
fn a_base_on_nfs_has_words_of_its_own() {
    let plan = Plan::parse(
        "ip=192.0.2.9::::x:eth0:none ip=[2001:db8::9]:::64::eth0:none \
         cowroot=nfs:192.0.2.1:/export:/r cowroot.nfsopts=vers=4.1,rsize=65536",
    )
    .unwrap();
    assert_eq!(plan.base.to_string(), "nfs:192.0.2.1:/export:/r");
    assert_eq!(plan.nfs.versions, [nfs::Version::V4(1)]);
    assert_eq!(plan.nfs.rest, "rsize=65536");
    assert_eq!(plan.ip.len(), 2);
    let found = problems("cowroot=LABEL=L:/r cowroot.nfsopts=vers=4.1");
    assert!(found[0].contains("is not on NFS"), "{found:#?}");
    let found = problems("cowroot=nfs:192.0.2.1:/export:/r cowroot.nfsopts=vers=5");
    assert!(found[0].contains("'vers=5' is no version"), "{found:#?}");
}

#[test]
fn of_the_kernels_own_words_the_last_one_counts() {
    let plan = Plan::parse("cowroot=/dev/sr0:/r ro init=/a rw init=/b").unwrap();
    assert!(!plan.root.read_only);
    assert_eq!(plan.root.init.as_deref(), Some("/b"));
}

#[test]
fn all_problems_are_named_at_once() {
    let found = problems(
        "cowroot=LIVE cowroot.cow=tmpfs:0 cowroot.wait=soon cowroot.debug=yes \
         cowroot.weit=3 cowroot.session=old cowroot.onfull=wait",
    );
    assert_eq!(found.len(), 7, "{found:#?}");
    for part in [
        "'cowroot': 'LIVE' does not name a medium",
        "'cowroot.cow': a tmpfs of size 0",
        "'cowroot.wait': 'soon'",
        "'cowroot.debug': 'yes'",
        "'cowroot.weit' is unknown; is 'cowroot.wait' meant?",
        "'cowroot.session': 'old' is no session",
        "'cowroot.onfull=wait' is not available in this version; only error is",
    ] {
        assert!(
            found.iter().any(|problem| problem.contains(part)),
            "{part}: {found:#?}"
        );
    }
    let text = Problems(found).to_string();
    assert!(
        text.starts_with("reading the kernel command line: 7 problems:\n  "),
        "{text}"
    );
}

#[test]
fn what_does_not_work_yet_is_refused_by_name() {
    for word in [
        "cowroot.onfull=wait:10",
        "cowroot.root=LABEL=r",
        "cowroot.size=8G",
        "cowroot.growfs",
        "cowroot.toram",
        "cowroot.verify",
    ] {
        let found = problems(&format!("cowroot=/dev/sr0:/r {word}"));
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(name), "{found:#?}");
        assert!(
            found[0].contains("not available in this version"),
            "{found:#?}"
        );
    }
    let found = problems("cowroot=/dev/sr0:/r cowroot.cow=nfs:192.0.2.1:/export:/a.cow");
    assert!(
        found[0].contains("a cowfile on NFS") && found[0].contains("not available"),
        "{found:#?}"
    );
}

#[test]
fn a_medium_is_waited_for_as_long_as_is_said() {
    for (word, seconds) in [
        ("", 30),
        ("cowroot.lost=0", 0),
        ("cowroot.lost=86400", 86_400),
    ] {
        let plan = Plan::parse(&format!("cowroot=/dev/sr0:/r {word}")).unwrap();
        assert_eq!(plan.lost_s, seconds, "{word}");
    }
    for value in ["eio", "-1", "86401", ""] {
        let found = problems(&format!("cowroot=/dev/sr0:/r cowroot.lost={value}"));
        assert!(found[0].contains("is not a time to wait"), "{found:#?}");
    }
}

#[test]
fn a_word_given_twice_is_refused_unless_it_says_the_same() {
    let found = problems("cowroot=/dev/sr0:/r cowroot.wait=3 cowroot.wait=4");
    assert_eq!(
        found,
        ["'cowroot.wait' is given twice, as '3' and as '4'; keep one"]
    );
    assert!(Plan::parse("cowroot=/dev/sr0:/r cowroot.wait=3 cowroot.wait=3").is_ok());
}

#[test]
fn a_missing_base_is_said_with_a_guess_at_what_was_meant() {
    assert!(problems("quiet")[0].contains("'cowroot=<base>' is missing"));
    assert!(problems("cowrot=/dev/sr0:/r")[0].contains("is 'cowrot' meant"));
    assert!(problems("cowroot.bogus -- cowroot=/dev/sr0:/r").len() == 2);
}

#[test]
fn a_word_far_from_any_is_answered_with_all_there_are() {
    let found = problems("cowroot=/dev/sr0:/r cowroot.xyzzyx=1");
    assert!(
        found[0].contains("there are cowroot, cowroot.cow"),
        "{found:#?}"
    );
}

#[test]
fn distance_counts_letters() {
    for (one, other, expected) in [
        ("", "", 0),
        ("a", "", 1),
        ("wait", "wiat", 2),
        ("wait", "waits", 1),
        ("kitten", "sitting", 3),
    ] {
        assert_eq!(distance(one, other), expected, "{one} {other}");
        assert_eq!(distance(other, one), expected, "{other} {one}");
    }
}

/// The shipped menu is copied by people who have not read this file: its titles must be true.
#[test]
fn the_sample_menu_says_which_entries_do_not_work_yet() {
    let menu = include_str!("../../docs/examples/grub.cfg");
    let sets = menu.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("set ")?.split_once('=')?;
        Some((name, value.trim_matches('"')))
    });
    let expand = |text: &str| {
        sets.clone().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("${{{name}}}"), value)
                .replace(&format!("${name}"), value)
        })
    };
    let linux = menu
        .lines()
        .find_map(|line| line.trim().strip_prefix("linux "));
    let (_, common) = linux
        .unwrap()
        .trim_end_matches("\"$@\"")
        .split_once(' ')
        .unwrap();
    let mut entries = 0;
    for entry in menu.split("\nmenuentry ").skip(1) {
        let (title, body) = entry.split_once('\n').unwrap();
        let words = body
            .lines()
            .find_map(|line| line.trim().strip_prefix("live"));
        let words = expand(&format!("{common} {}", words.unwrap()));
        assert!(!words.contains('$'), "{words}");
        let refused = Plan::parse(&words).err();
        let is_said = title.contains("(does not work yet)");
        assert_eq!(
            refused.is_some(),
            is_said,
            "{title}: '{words}': {refused:?}"
        );
        entries += 1;
    }
    assert_eq!(entries, 3);
}

#[test]
fn a_merge_at_each_boot_needs_a_cowfile_and_a_base_that_can_be_written() {
    let problems =
        |text: &str| Plan::parse(text).map_or_else(|problems| problems.0, |_| Vec::new());
    let cow = "cowroot.cow=LABEL=C:/c.cow";
    let fine = format!("cowroot=LABEL=L:/r.img {cow} cowroot.merge=yes");
    assert!(problems(&fine).is_empty());
    for (text, says) in [
        (
            "cowroot=LABEL=L:/r.img cowroot.merge=yes".to_owned(),
            "needs a cowfile",
        ),
        (
            format!("cowroot=LABEL=L:/a.img!/r.img {cow} cowroot.merge=yes"),
            "in an image",
        ),
        (
            format!("cowroot=nfs:192.0.2.1:/e:/r.img {cow} cowroot.merge=yes"),
            "on a server",
        ),
    ] {
        let found = problems(&text);
        assert!(
            found.len() == 1 && found[0].contains(says),
            "{text}: {found:?}"
        );
        let others = text.replace("merge=yes", "merge=requested");
        assert!(problems(&others).is_empty(), "{others}");
    }
}
