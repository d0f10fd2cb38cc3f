//! The offline commands, as people and scripts meet them: exit codes and messages of the built binary.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

fn golden(folder: &Path, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packed =
        std::fs::read(root.join(format!("tests/testdata/golden/v1-{name}.cow.gz"))).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice())
        .read_to_end(&mut bytes)
        .unwrap();
    let path = folder.join(format!("{name}.cow"));
    std::fs::write(&path, bytes).unwrap();
    path
}

fn flip(path: &Path, byte: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[byte] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Exit code, and all that was printed.
fn cowroot(words: &[&str], path: &Path) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cowroot"));
    let output = command.args(words).arg(path).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

/// The names in a folder.
fn names_in(folder: &Path) -> String {
    let names = std::fs::read_dir(folder).unwrap();
    let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn exit_codes_and_messages_are_what_scripts_rely_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| golden(folder.path(), name);
    let text = folder.path().join("text");
    std::fs::write(&text, vec![b'x'; 1 << 20]).unwrap();
    let missing = folder.path().join("missing");
    for (words, path, code, says) in [
        (vec!["check"], path("clean"), 0, "no damage, epoch 2"),
        (vec!["check"], path("in-use"), 0, "no damage, epoch 5"),
        (vec!["check"], path("torn"), 0, "a commit was cut off"),
        (vec!["check"], text.clone(), 1, "not a cowfile"),
        (vec!["info"], text, 1, "not a cowfile"),
        (vec!["check"], missing.clone(), 1, "No such file"),
        (vec!["info"], missing, 1, "No such file"),
        (
            vec!["check"],
            path("incompat"),
            1,
            "made by a newer cowroot",
        ),
        (vec!["info"], path("incompat"), 1, "made by a newer cowroot"),
        (
            vec!["check", "--drop-damaged"],
            path("clean"),
            2,
            "--repair",
        ),
        (vec!["info"], path("in-use"), 0, "label GOLDEN"),
        (vec!["info", "--json"], path("clean"), 0, "\"epoch\": 2"),
        (vec!["merge"], path("clean"), 2, "--into"),
        (vec!["merge", "--cancel"], path("clean"), 2, "--next-boot"),
        (vec!["merge", "--undo"], path("clean"), 1, "no undo log"),
        (
            vec!["merge", "--into", "/dev/null"],
            path("clean"),
            1,
            "neither a regular file",
        ),
    ] {
        let before = std::fs::read(&path).ok();
        let (got, text) = cowroot(&words, &path);
        assert_eq!(got, code, "{words:?} {}: {text}", path.display());
        assert!(text.contains(says), "{words:?} {}: {text}", path.display());
        assert_eq!(before, std::fs::read(&path).ok(), "nothing was written");
    }
}

#[test]
fn a_superblock_that_is_not_whole_is_told_and_is_written_again_if_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = golden(folder.path(), "clean");
    flip(&path, 100);
    let (code, text) = cowroot(&["check"], &path);
    assert!(
        code == 0 && text.contains("superblock at slot 0 is not whole"),
        "{code} {text}"
    );
    let (code, text) = cowroot(&["check", "--repair"], &path);
    assert!(code == 0 && text.contains("no damage"), "{code} {text}");
    let (code, text) = cowroot(&["check"], &path);
    assert!(code == 0 && !text.contains("superblock"), "{code} {text}");
    let (_, text) = cowroot(&["info"], &path);
    assert!(text.contains("repaired: nothing dropped"), "{text}");
    let saved =
        |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().contains(".repair-");
    let entries = || {
        std::fs::read_dir(folder.path())
            .unwrap()
            .map(Result::unwrap)
    };
    let save = entries().find(saved).unwrap().path();
    assert!(std::fs::read(&save).unwrap().starts_with(b"COWRSAVE"));
}

#[test]
fn a_lost_chunk_stays_an_error_unless_it_may_be_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = golden(folder.path(), "clean");
    // What chunk 700 was written with, in whichever slot it is.
    let bytes = std::fs::read(&path).unwrap();
    let chunk = 1700_u32.to_le_bytes().repeat(1024);
    let slot = bytes.chunks(4096).position(|slot| slot == chunk).unwrap();
    flip(&path, slot * 4096 + 9);
    let lost = "layer 0: bytes 2867200 to 2871296 of the device: lost";
    for words in [vec!["check"], vec!["check", "--repair"]] {
        let (code, text) = cowroot(&words, &path);
        assert!(code == 3 && text.contains(lost), "{code} {text}");
    }
    // What nothing can be done about is left as it is.
    assert!(!names_in(folder.path()).contains(".repair-"));
    let save = folder.path().join("save");
    let words = [
        "check",
        "--repair",
        "--drop-damaged",
        "--save",
        save.to_str().unwrap(),
    ];
    let (code, text) = cowroot(&words, &path);
    assert!(code == 0 && text.contains("no damage"), "{code} {text}");
    assert_eq!(cowroot(&["check"], &path).0, 0);
    flip(&path, 100);
    let (code, text) = cowroot(&words, &path);
    assert!(
        code == 1 && text.contains("nothing was repaired"),
        "{code} {text}"
    );
}

#[test]
fn a_sibling_whose_header_is_damaged_is_told_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (base, path) = (folder.path().join("base"), folder.path().join("a.cow"));
    std::fs::write(&base, vec![7; 1 << 20]).unwrap();
    let size = [
        "--max-size",
        "64M",
        "--file-size",
        "20M",
        "--preallocate",
        "all",
    ];
    let words = [&["create", "--base", base.to_str().unwrap()], &size[..]].concat();
    let (code, text) = cowroot(&words, &path);
    assert_eq!(code, 0, "{text}");
    let sibling = folder.path().join("a.cow.2");
    flip(&sibling, 20);
    let (code, text) = cowroot(&["info"], &path);
    assert!(
        code == 1 && text.contains("check --repair"),
        "{code} {text}"
    );
    let (code, text) = cowroot(&["check"], &path);
    assert!(
        code == 3 && text.contains("the header at slot"),
        "{code} {text}"
    );
    let (code, text) = cowroot(&["check", "--repair"], &path);
    assert!(code == 0 && text.contains("no damage"), "{code} {text}");
    assert_eq!(cowroot(&["info"], &path).0, 0);
    // Another cowfile's is nothing to write a header to.
    let (other, words) = (folder.path().join("b.cow"), words.as_slice());
    assert_eq!(cowroot(words, &other).0, 0);
    std::fs::copy(folder.path().join("b.cow.2"), &sibling).unwrap();
    let (code, text) = cowroot(&["check", "--repair"], &path);
    assert!(
        code != 0 && text.contains("file number 2 is not one of this cowfile"),
        "{code} {text}"
    );
}

#[test]
fn a_merge_that_is_asked_for_in_two_ways_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = golden(folder.path(), "clean");
    let before = std::fs::read(&path).unwrap();
    for words in [
        "--cancel --into B",
        "--cancel --output N --base B",
        "--cancel --undo L",
        "--cancel --next-boot --free",
        "--cancel --next-boot --up-to a",
        "--base O --into B",
        "--base O --undo L",
        "--base O --next-boot",
        "--without-undo-log --next-boot",
        "--without-undo-log --output N --base B",
        "--without-undo-log --undo L",
        "--without-cowfile --undo L",
        "--without-cowfile --into B",
        "--undo L --free",
        "--undo L --next-boot",
    ] {
        let words: Vec<&str> = ["merge"].into_iter().chain(words.split(' ')).collect();
        let (code, text) = cowroot(&words, &path);
        assert!(
            code == 2 && (text.contains("cannot be used with") || text.contains("required")),
            "{words:?}: {code} {text}"
        );
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
