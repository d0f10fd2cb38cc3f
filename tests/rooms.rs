//! The house rules that a compiler does not check: which room may use which, and where special
//! things live. Reads the sources as text; names file and line of whatever breaks a rule.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms by floor. A room uses only rooms of lower floors, never its neighbours.
const FLOORS: [&[&str]; 8] = [
    &["cli", "kmsg", "sys", "units", "error"],
    &["engine", "trees"],
    &["disk"],
    &["media", "ublk"],
    &["daemon"],
    &["boot"],
    &["cmd"],
    &["main", "lib"],
];

/// Floors within the engine.
const ENGINE_FLOORS: [&[&str]; 6] = [
    &["units"],
    &["command", "format", "map"],
    &["identity", "plan", "turns", "volatile"],
    &["cowfile"],
    &["merge", "stack"],
    &["driven", "mod", "simulation"],
];

/// What may appear only in some places, and why.
const PLACES: [(&str, &[&str], &str); 11] = [
    (
        "unsafe ",
        &["sys.rs", "sys/"],
        "sys is the fence around unsafe",
    ),
    ("libublk::", &["ublk/"], "ublk/ is the fence around libublk"),
    ("io_uring::", &["ublk/"], "the ring belongs to the queue"),
    (
        "clap::",
        &["cli.rs", "cli/", "main.rs"],
        "the command line is read in one place",
    ),
    (
        "sys_mount::",
        &["media/", "boot/"],
        "mounts are made in media/ and boot/",
    ),
    (
        "nix::mount",
        &["media/", "boot/"],
        "mounts are made in media/ and boot/",
    ),
    (
        "simplelog::",
        &["kmsg.rs"],
        "kmsg.rs decides where log lines go",
    ),
    (
        "rkyv::",
        &[
            "daemon/protocol.rs",
            "daemon/handover.rs",
            "engine/format/description.rs",
        ],
        "archives need an envelope: a message's is in protocol.rs, the superblock is a description's; a handover stays \
         within one binary",
    ),
    (
        "zerocopy::",
        &["engine/format/"],
        "bytes become values in one place",
    ),
    (
        "crc32c::",
        &["engine/format/"],
        "page.rs says what a checksum is",
    ),
    (
        "serde_json::",
        &["cmd/"],
        "JSON is for people's scripts, so commands make it",
    ),
];

/// What the engine knows nothing of.
const NOT_IN_THE_ENGINE: [&str; 8] = [
    "log::",
    "std::fs",
    "std::io",
    "std::time",
    "std::thread",
    "std::net",
    "nix::",
    "libc::",
];

const LONGEST_FILE: usize = 400;

struct Source {
    /// Path under src/, with slashes.
    path: String,
    /// Lines before the tests.
    lines: Vec<String>,
    is_test: bool,
    documented: bool,
}

#[test]
fn rooms_use_only_what_stands_below_them() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        let room = room_of(&source.path);
        let floor =
            floor_of(&FLOORS, room).unwrap_or_else(|| panic!("no floor for {}", source.path));
        for (number, line) in code(source) {
            for used in used_rooms(line, "crate::") {
                let fine =
                    used == room || floor_of(&FLOORS, &used).is_some_and(|below| below < floor);
                if !fine && floor_of(&FLOORS, &used).is_some() {
                    broken.push(format!("{}:{number}: {room} uses {used}", source.path));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "arrows that go up or sideways:\n{}",
        broken.join("\n")
    );
}

#[test]
fn the_engine_is_built_in_floors_too() {
    let mut broken = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.path.starts_with("engine/") && !source.is_test)
    {
        let inner = &source.path["engine/".len()..];
        let room = room_of(inner);
        let floor = floor_of(&ENGINE_FLOORS, room)
            .unwrap_or_else(|| panic!("no floor for {}", source.path));
        for (number, line) in code(source) {
            for used in used_rooms(line, "crate::engine::") {
                if used != room
                    && floor_of(&ENGINE_FLOORS, &used).is_none_or(|below| below >= floor)
                {
                    broken.push(format!("{}:{number}: {room} uses {used}", source.path));
                }
            }
            for word in NOT_IN_THE_ENGINE {
                if line.contains(word) {
                    broken.push(format!(
                        "{}:{number}: the engine knows nothing of {word}",
                        source.path
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn special_things_live_in_their_place() {
    let mut broken = Vec::new();
    for source in &sources() {
        for (number, line) in code(source) {
            for (word, places, why) in PLACES {
                let here = places.iter().any(|place| source.path.starts_with(place));
                if line.contains(word) && !here {
                    broken.push(format!("{}:{number}: '{word}': {why}", source.path));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_is_short_and_says_what_it_is() {
    let mut broken = Vec::new();
    for source in &sources() {
        if source.lines.len() > LONGEST_FILE && !source.is_test {
            broken.push(format!(
                "{}: {} lines, {LONGEST_FILE} are the limit",
                source.path,
                source.lines.len()
            ));
        }
        if !source.documented {
            broken.push(format!("{}: no module doc", source.path));
        }
        if source.path == "main.rs" && source.lines.len() > 60 {
            broken.push(format!(
                "main.rs: {} lines, 60 are the limit",
                source.lines.len()
            ));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A dependency that sets log's release_max_level_* would silence our whole binary.
#[test]
fn no_dependency_silences_the_log() {
    let log = log::STATIC_MAX_LEVEL;
    assert_eq!(
        log,
        log::LevelFilter::Trace,
        "a dependency limits the log to {log}"
    );
}

/// The rules must be able to fail: this is what they look for.
#[test]
fn an_arrow_is_seen_in_every_form_of_use() {
    for (line, rooms) in [
        ("use crate::daemon::Options;", vec!["daemon"]),
        ("use crate::{boot, cli};", vec!["boot", "cli"]),
        (
            "use crate::{engine::{map, plan}, sys::SharedWords};",
            vec!["engine", "sys"],
        ),
        ("    crate::sys::set_io_flusher()", vec!["sys"]),
        ("pub(crate) fn run() {", vec![]),
    ] {
        assert_eq!(used_rooms(line, "crate::"), rooms, "{line}");
    }
}

/// The first path elements after `prefix` in a line, also inside braces.
fn used_rooms(line: &str, prefix: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        let rest = &line[at + prefix.len()..];
        if !rest.starts_with('{') {
            rooms.push(word(rest));
            continue;
        }
        let (mut depth, mut fresh) = (0, true);
        for (at, letter) in rest.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => fresh = true,
                letter if depth == 1 && fresh && letter.is_alphabetic() => {
                    rooms.push(word(&rest[at..]));
                    fresh = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    rooms.retain(|room| room.chars().next().is_some_and(char::is_lowercase));
    rooms
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect()
}

fn room_of(path: &str) -> &str {
    path.split('/')
        .next()
        .unwrap_or(path)
        .trim_end_matches(".rs")
}

fn floor_of(floors: &[&[&str]], room: &str) -> Option<usize> {
    floors.iter().position(|rooms| rooms.contains(&room))
}

/// The lines of a source that are code, with their numbers; a `use` over several lines counts as one.
fn code(source: &Source) -> Vec<(usize, &str)> {
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let lines = source.lines.iter().enumerate();
    lines
        .filter(|(_, line)| !is_comment(line))
        .map(|(at, line)| (at + 1, line.as_str()))
        .collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "the sources are where they were");
    files.iter().map(|file| read(&root, file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn read(root: &Path, file: &Path) -> Source {
    let text = fs::read_to_string(file).unwrap();
    let path = file
        .strip_prefix(root)
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let mut lines: Vec<String> = Vec::new();
    let mut open_use = false;
    for line in text[..tests].lines() {
        // Join a `use` to one line, and keep the count of lines.
        if open_use {
            let first = lines
                .iter_mut()
                .rev()
                .find(|line| !line.is_empty())
                .unwrap();
            first.push_str(line.trim());
            open_use = !line.trim_end().ends_with(';');
            lines.push(String::new());
            continue;
        }
        open_use = line.starts_with("use ") && !line.trim_end().ends_with(';');
        lines.push(line.to_owned());
    }
    let is_test = path.ends_with("_tests.rs")
        || path.ends_with("simulation.rs")
        || path.contains("/simulation/");
    Source {
        is_test,
        documented: text.starts_with("//!"),
        path,
        lines,
    }
}
