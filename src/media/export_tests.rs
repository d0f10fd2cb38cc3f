//! Sessions that leave one cowfile and come into another.

use super::*;
use crate::disk::base::Base;
use crate::disk::cowfile::Mode;
use crate::disk::drive::{Data, Driver};
use crate::media::cowfile;
use crate::media::create::{Wishes, create};
use crate::media::import::import;
use crate::media::session::{Action, change};
use std::path::{Path, PathBuf};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, byte) in [("base", 7), ("other", 8)] {
            std::fs::write(folder.path().join(name), vec![byte; 4 << 20]).unwrap();
        }
        Self(folder)
    }

    fn cowfile(&self, name: &str, base: &str, wishes: &Wishes) -> PathBuf {
        let path = self.0.path().join(name);
        let base = Base::open(&self.0.path().join(base)).unwrap();
        create(&path, &base, wishes, &mut |_, _| {}).unwrap();
        path
    }
}

fn write_chunks(path: &Path, chunks: std::ops::Range<u64>, byte: u8) {
    let Opened { files, found, .. } = cowfile::open(path, Mode::Write, None).unwrap();
    let mut driver = Driver::open(files, found).unwrap();
    for chunk in chunks {
        let data = match byte {
            0 => Data::Zeros(CHUNK_BYTES),
            _ => Data::Bytes(&[byte; CHUNK_LEN]),
        };
        driver.write(chunk * CHUNK_BYTES, data).unwrap();
    }
    driver.close().unwrap();
}

/// What a cowfile has of each chunk: its byte, 0 for zeros, or nothing.
fn contents(path: &Path) -> Vec<Option<u8>> {
    let mut opened = cowfile::open(path, Mode::Read, None).unwrap();
    let chunks = opened.found.superblock.chunks();
    let mut offline = Offline::new(opened.found);
    let mut bytes = vec![0; CHUNK_LEN];
    let read = |chunk| match offline.read(&mut opened.files, chunk, &mut bytes).unwrap() {
        Content::Read => Some(bytes[0]),
        Content::Zero => Some(0),
        Content::Absent => None,
    };
    (0..chunks).map(read).collect()
}

fn exported(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    write(
        cowfile::open(path, Mode::Read, None).unwrap(),
        &mut out,
        &mut |_| {},
    )
    .unwrap();
    out
}

fn imported(path: &Path, export: &[u8], name: Option<&str>) -> Result<String, String> {
    let read = || -> anyhow::Result<String> {
        let opened = cowfile::open(path, Mode::Write, None)?;
        import(path, opened, Export::open(export)?, name, &mut |_| {})
    };
    read().map_err(|error| format!("{error:#}"))
}

#[test]
fn what_is_exported_from_a_stack_is_one_session_elsewhere() {
    let folder = Folder::new();
    let from = folder.cowfile("from", "base", &Wishes::default());
    write_chunks(&from, 0..600, 1);
    change(
        &from,
        cowfile::open(&from, Mode::Write, None).unwrap(),
        &Action::New(Some("b"), None),
    )
    .unwrap();
    write_chunks(&from, 100..200, 0);
    write_chunks(&from, 150..160, 2);
    write_chunks(&from, 1000..1024, 3);
    let export = exported(&from);
    assert!(
        export.len() < 100_000,
        "{} bytes of what compresses well",
        export.len()
    );
    let to = folder.cowfile("to", "base", &Wishes::default());
    write_chunks(&to, 700..710, 9);
    let said = imported(&to, &export, None).unwrap();
    assert!(said.contains("session 'b' is there"), "{said}");
    assert_eq!(contents(&to), contents(&from));
    let refused = imported(&to, &export, None).unwrap_err();
    assert!(
        refused.contains("there is a session 'b' already"),
        "{refused}"
    );
    imported(&to, &export, Some("c")).unwrap();
    let status = std::process::Command::new("zstd")
        .args(["-qt", "-"])
        .stdin(std::process::Stdio::piped())
        .spawn();
    let mut zstd =
        status.unwrap_or_else(|error| panic!("zstd: {error}; install it: apt-get install zstd"));
    zstd.stdin.take().unwrap().write_all(&export).unwrap();
    assert!(zstd.wait().unwrap().success());
}

#[test]
fn another_base_a_full_cowfile_or_a_damaged_export_leaves_the_sessions_as_they_were() {
    let folder = Folder::new();
    let from = folder.cowfile("from", "base", &Wishes::default());
    write_chunks(&from, 0..1024, 1);
    let export = exported(&from);
    let other = folder.cowfile("other.cow", "other", &Wishes::default());
    let refused = imported(&other, &export, Some("x")).unwrap_err();
    assert!(
        refused.contains("another base than this cowfile's"),
        "{refused}"
    );
    let small = Wishes {
        max_bytes: Some(20 << 20),
        ..Wishes::default()
    };
    let to = folder.cowfile("to", "base", &small);
    write_chunks(&to, 0..500, 5);
    let before = contents(&to);
    let sessions = || {
        let about = cowfile::open(&to, Mode::Read, None).unwrap().description;
        about
            .layers
            .into_iter()
            .map(|layer| layer.name)
            .collect::<Vec<_>>()
    };
    let mut at = 0;
    while at < export.len() {
        let mut damaged = export.clone();
        damaged[at] ^= 0x10;
        // A bit that says nothing of the content, as of how it is compressed, may be another.
        if imported(&to, &damaged, Some("x")).is_ok() {
            assert_eq!(contents(&to), contents(&from), "byte {at}");
            for action in [Action::Resume("main"), Action::Delete("x")] {
                let opened = cowfile::open(&to, Mode::Write, None).unwrap();
                change(&to, opened, &action).unwrap();
            }
        }
        assert!(
            imported(&to, &export[..at], Some("x")).is_err(),
            "cut at {at}"
        );
        assert_eq!(sessions(), ["main"], "byte {at}");
        at += export.len() / 20 + 1;
    }
    assert_eq!(contents(&to), before);
}
