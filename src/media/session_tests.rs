//! Sessions on real cowfiles, changed by their names.

use super::*;
use crate::disk::base::Base;
use crate::disk::drive::{Data, Driver};
use crate::engine::cowfile::offline::{Content, Offline};
use crate::engine::units::CHUNK_LEN;
use crate::media::create::{Wishes, create};
use std::path::PathBuf;

struct Made {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn made() -> Made {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    std::fs::write(&base, vec![7; 4 << 20]).unwrap();
    let path = folder.path().join("a.cow");
    let base = Base::open(&base).unwrap();
    create(&path, &base, &Wishes::default(), &mut |_, _| {}).unwrap();
    Made {
        _folder: folder,
        path,
    }
}

impl Made {
    fn open(&self, mode: Mode) -> Opened {
        cowfile::open(&self.path, mode, None).unwrap()
    }

    fn change(&self, action: Action<'_>) -> Result<String, String> {
        let changed = change(&self.path, self.open(Mode::Write), &action);
        changed
            .map(|(_, said)| said)
            .map_err(|error| format!("{error:#}"))
    }

    /// Fill a chunk with this byte; `close`, or leave it as a power cut does.
    fn write(&self, chunk: u64, byte: u8) {
        let Opened { files, found, .. } = self.open(Mode::Write);
        let mut driver = Driver::open(files, found).unwrap();
        let offset = chunk * CHUNK_LEN as u64;
        driver
            .write(offset, Data::Bytes(&[byte; CHUNK_LEN]))
            .unwrap();
        driver.close().unwrap();
    }

    /// What a session has of the first chunks; 0 where the base shows.
    fn read(&self, name: Option<&str>) -> Vec<u8> {
        let mut opened = self.open(Mode::Read);
        if let Some(name) = name {
            look_at(&mut opened, name).unwrap();
        }
        let mut offline = Offline::new(opened.found);
        let mut chunk = vec![0; CHUNK_LEN];
        (0..4)
            .map(
                |number| match offline.read(&mut opened.files, number, &mut chunk).unwrap() {
                    Content::Read => chunk[0],
                    Content::Zero => 255,
                    Content::Absent => 0,
                },
            )
            .collect()
    }

    fn names(&self) -> Vec<(String, bool)> {
        let opened = self.open(Mode::Read);
        let about = opened.description.layers.iter();
        about
            .map(|layer| (layer.name.clone(), layer.sealed_s.is_some()))
            .collect()
    }
}

#[test]
fn a_session_on_another_sees_it_and_rolling_back_drops_only_the_top() {
    let made = made();
    made.write(0, 1);
    made.change(Action::New(Some("b"), None)).unwrap();
    made.write(1, 2);
    made.write(0, 3);
    assert_eq!(made.read(None), [3, 2, 0, 0]);
    assert_eq!(made.read(Some("main")), [1, 0, 0, 0]);
    assert_eq!(made.names(), [("main".into(), true), ("b".into(), false)]);
    let said = made.change(Action::RollBack).unwrap();
    assert!(
        said.contains("'b' is gone") && said.contains("'main' takes"),
        "{said}"
    );
    assert_eq!(made.read(None), [1, 0, 0, 0]);
    assert_eq!(made.names(), [("main".into(), false)]);
    let said = made.change(Action::RollBack).unwrap();
    assert!(said.contains("'main' is empty"), "{said}");
    assert_eq!(made.read(None), [0; 4]);
    let kinds = made.open(Mode::Read).description.history;
    let kinds: Vec<EventKind> = kinds.iter().map(|event| event.kind).collect();
    let (made_, sealed, dropped) = (EventKind::Made, EventKind::Sealed, EventKind::Dropped);
    assert_eq!(kinds, [made_, sealed, dropped, dropped]);
}

#[test]
fn branches_are_told_apart_by_name_and_none_is_cut_from_under_another() {
    let made = made();
    made.write(0, 1);
    made.change(Action::New(Some("b"), None)).unwrap();
    made.write(1, 2);
    made.change(Action::New(Some("c"), Some("main"))).unwrap();
    made.write(2, 3);
    made.change(Action::New(None, Some(BASE))).unwrap();
    made.write(3, 4);
    assert_eq!(made.read(None), [0, 0, 0, 4]);
    assert_eq!(made.read(Some("b")), [1, 2, 0, 0]);
    assert_eq!(made.read(Some("c")), [1, 0, 3, 0]);
    for (action, text) in [
        (Action::Delete("main"), "session 'b' stands on it"),
        (Action::Delete("session-2"), "it takes the writes"),
        (
            Action::Delete("x"),
            "there is no session 'x', but 'main', 'b', 'c', 'session-2'",
        ),
        (Action::Resume("main"), "session 'b' stands on it"),
        (
            Action::New(Some("b"), None),
            "there is a session 'b' already",
        ),
        (Action::New(Some("a b"), None), "there is a space"),
        (
            Action::Rename("b", "base"),
            "that is what the base is called",
        ),
        (Action::Rename("b", "c"), "there is a session 'c' already"),
    ] {
        let refused = made.change(action).unwrap_err();
        assert!(refused.contains(text), "{refused}");
    }
    made.change(Action::Rename("c", "d")).unwrap();
    made.change(Action::Seal(Some("d"))).unwrap();
    let refused = made.change(Action::Resume("d")).unwrap_err();
    assert!(refused.contains("it is sealed"), "{refused}");
    made.change(Action::Resume("b")).unwrap();
    made.write(3, 5);
    assert_eq!(made.read(None), [1, 2, 0, 5]);
    made.change(Action::Delete("d")).unwrap();
    made.change(Action::Delete("session-2")).unwrap();
    made.write(2, 6);
    assert_eq!(made.read(None), [1, 2, 6, 5]);
    assert_eq!(made.names(), [("main".into(), true), ("b".into(), false)]);
}

#[test]
fn there_is_an_end_to_sessions_and_the_last_one_works() {
    let made = made();
    for number in 1..MAX_LAYERS {
        let byte = u8::try_from(number).unwrap();
        made.write(u64::from(byte % 4), byte);
        made.change(Action::Seal(None)).unwrap();
    }
    let refused = made.change(Action::New(None, None)).unwrap_err();
    assert!(
        refused.contains("there are 64 sessions already"),
        "{refused}"
    );
    assert_eq!(made.read(None), [60, 61, 62, 63]);
}

#[test]
fn a_cowfile_that_was_not_closed_is_closed_before_its_sessions_change() {
    let made = made();
    let Opened { files, found, .. } = made.open(Mode::Write);
    let mut driver = Driver::open(files, found).unwrap();
    // More than is staged, so that some of it is committed; and then the power goes.
    for chunk in 0..6000_u64 {
        let byte = u8::try_from(chunk % 200 + 1).unwrap();
        let offset = chunk % 1024 * CHUNK_LEN as u64;
        driver
            .write(offset, Data::Bytes(&[byte; CHUNK_LEN]))
            .unwrap();
    }
    driver.rest();
    drop(driver);
    assert!(!made.open(Mode::Read).found.superblock.clean);
    let before = made.read(None);
    assert_ne!(before[0], 0);
    made.change(Action::New(Some("b"), None)).unwrap();
    assert!(made.open(Mode::Read).found.superblock.clean);
    assert_eq!(made.read(None), before);
    assert_eq!(made.read(Some("main")), before);
}

#[test]
fn wishes_are_read_and_written_alike() {
    for (text, wish) in [
        ("resume", Wish::Resume(None)),
        ("resume:a", Wish::Resume(Some("a".into()))),
        ("new", Wish::New(None)),
        ("new:ä", Wish::New(Some("ä".into()))),
        ("throwaway", Wish::Throwaway),
    ] {
        assert_eq!(text.parse(), Ok(wish.clone()));
        assert_eq!(wish.to_string(), text);
    }
    for text in ["", "resume:", "throwaway:a", "old", "new:base", "new:a b"] {
        assert!(text.parse::<Wish>().is_err(), "{text}");
    }
}
