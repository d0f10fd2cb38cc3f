//! docs/format.md against the structs: each row of a table is a field, each field has a row, and the
//! numbers that the prose says are the code's.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::collections::BTreeSet;
use std::fs;
use std::mem::offset_of;
use std::path::Path;

use cowroot::engine::format::check;
use cowroot::engine::format::commit::{self, Body, CommitHead, Link, Page, RawRecord, Record};
use cowroot::engine::format::page::{self, Header, Kind, Origin};
use cowroot::engine::format::superblock::{
    self, BASE, DESCRIPTION_VERSION, KNOWN_AUTOCLEAR, KNOWN_INCOMPAT, KNOWN_RO_COMPAT, LayerRoot,
    MAX_LAYERS, RawExtent, RawSuperblock,
};
use cowroot::engine::format::tree::{RawEntry, TreeHead};
use cowroot::engine::format::{Entry, Shape};
use cowroot::engine::units::CHUNK_BYTES;

const PAGE: &str = include_str!("../docs/format.md");

/// Name, offset and bytes of a field, as the page or as the compiler has it.
type Field = (String, usize, usize);

/// The name in docs/format.md, the bytes, and the fields of a struct. The pattern lists all fields, or
/// it does not compile.
macro_rules! layout {
    ($name:literal, $type:ident { $($field:ident),+ $(,)? }) => {{
        let _all_fields = |$type { $($field: _),+ }: $type| {};
        let fields: Vec<Field> = vec![$((
            stringify!($field).to_owned(),
            offset_of!($type, $field),
            size_behind(|whole: &$type| &whole.$field),
        )),+];
        ($name, size_of::<$type>(), fields)
    }};
}

fn size_behind<Whole, Field>(_: fn(&Whole) -> &Field) -> usize {
    size_of::<Field>()
}

#[rustfmt::skip]
fn layouts() -> Vec<(&'static str, usize, Vec<Field>)> {
    vec![
        layout!("Header", Header {
            crc, magic, kind, version, length, seq, incarnation, store, slot, previous, flags, reserved,
        }),
        layout!("Superblock", RawSuperblock {
            header, incompat, ro_compat, compat, autoclear, device_bytes, base_bytes, max_slots,
            grown_slots, file_slots, high_water, zone_slots, chunk_shift, fanout_shift, active_layer,
            state, journal_start, journal_previous, journal_seq, durable_seq, epoch, description_bytes,
            description_crc, description_version, merge, merge_top, merge_flags, merge_id, merged,
            reserved, layers, free, reserved_end,
        }),
        layout!("Extent", RawExtent { first, slots }),
        layout!("LayerRoot", LayerRoot { root, crc, state, parent, reserved }),
        layout!("CommitHead", CommitHead { header, epoch, next, records }),
        layout!("Record", RawRecord { first_chunk, count, first_slot, kind, layer, reserved }),
        layout!("TreeHead", TreeHead { header, index, level, layer, reserved }),
        layout!("Entry", RawEntry { slot, crc }),
    ]
}

#[test]
fn every_row_is_a_field_and_every_field_a_row() {
    let mut tables = tables();
    for (name, bytes, fields) in layouts() {
        let at = tables.iter().position(|(table, _)| *table == name);
        let (_, rows) = tables.remove(at.unwrap_or_else(|| panic!("no table for {name}")));
        assert_eq!(
            rows, fields,
            "{name}: the page on the left, the code on the right"
        );
        let mut end = 0;
        for (field, offset, bytes) in &rows {
            assert_eq!(
                *offset, end,
                "{name}.{field} begins where the one before ends"
            );
            end += bytes;
        }
        assert_eq!(end, bytes, "{name} ends with its last field");
    }
    assert!(tables.is_empty(), "tables of no struct: {tables:?}");
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a list of claims, one after the other"
)]
fn the_numbers_in_the_prose_are_the_codes() {
    let magic = std::str::from_utf8(&page::MAGIC).unwrap();
    let kinds = [
        (Kind::Superblock, "superblock"),
        (Kind::Commit, "commit page"),
        (Kind::Tree, "tree page"),
        (Kind::Sibling, "sibling header"),
    ];
    let kinds = kinds.map(|(kind, name)| format!("{} {name}", kind as u16));
    let shape = Shape::PRODUCT;
    let zone_bytes = shape.offset_bytes(shape.zone_slots);
    let [data, zero, unmap] = record_kinds();
    let claims = [
        format!("| magic | `{magic}` |"),
        format!("| kind | {} |", kinds.join(", ")),
        format!("| version | of this kind of page: {} |", page::VERSION),
        format!(
            "commit page: {} first of its epoch, {} last of its epoch",
            commit::FIRST,
            commit::LAST
        ),
        format!("has flag {}, the last flag {}", commit::FIRST, commit::LAST),
        format!(
            "| kind | {data} DATA, {zero} ZERO (the chunks are zeros, whatever is below), {unmap} UNMAP"
        ),
        format!("at most {MAX_LAYERS} in a cowfile"),
        format!("| layers | {MAX_LAYERS} of the next table |"),
        format!("| parent | the layer below; {BASE}: the base |"),
        format!("| chunk | {} KiB of the device", CHUNK_BYTES >> 10),
        format!("| slot | {} KiB of a cowfile", shape.chunk_bytes() >> 10),
        format!(
            "| zone | {} MiB, {} slots:",
            zone_bytes >> 20,
            shape.zone_slots
        ),
        format!(
            "numbered by 32 bits through all its files ({} TiB)",
            (shape.chunk_bytes() << 32) >> 40
        ),
        format!("| zone_slots | {} |", shape.zone_slots),
        format!("| chunk_shift | {}:", shape.chunk_shift),
        format!("| fanout_shift | {}:", shape.fanout_shift),
        format!(
            "{} entries follow at byte {}",
            shape.fanout(),
            size_of::<TreeHead>()
        ),
        format!("which begins at byte {}", superblock::HEAD_LEN),
        format!(
            "a superblock's covers its head of {} bytes",
            superblock::HEAD_LEN
        ),
        format!("which rkyv type it is: {DESCRIPTION_VERSION} |"),
        format!(
            "| slot | {} absent (what is below shows), {} zeros;",
            Entry::ABSENT.slot,
            Entry::ZERO.slot
        ),
        format!(
            "{} absent, {} zero, else the slot of the tree's topmost page",
            Entry::ABSENT.slot,
            Entry::ZERO.slot
        ),
    ];
    let missing: Vec<&String> = claims
        .iter()
        .filter(|claim| !PAGE.contains(*claim))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/format.md does not say: {missing:#?}"
    );
    assert_eq!(
        [KNOWN_INCOMPAT, KNOWN_AUTOCLEAR],
        [0; 2],
        "of the feature bits"
    );
    assert!(PAGE.contains("Version 1 knows the one that is built."));
    assert_eq!(
        superblock::slots(shape),
        [0, shape.zone_slots],
        "slot 0 and zone 1"
    );
}

/// The kinds of DATA, ZERO and UNMAP, as a page has them.
fn record_kinds() -> [u8; 3] {
    let origin = Origin {
        store: [7; 16],
        incarnation: 7,
    };
    let link = Link {
        slot: 3000,
        seq: 1,
        previous: 0,
    };
    [Body::Slots(4000, vec![1]), Body::Zero(1), Body::Unmap(1)].map(|body| {
        let record = Record {
            layer: 0,
            first_chunk: 0,
            body,
        };
        let page = Page {
            records: vec![record],
            ..Page::default()
        };
        let mut bytes = [0; 512];
        commit::encode(&mut bytes, origin, link, &page);
        bytes[size_of::<CommitHead>() + offset_of!(RawRecord, kind)]
    })
}

/// The tables that a struct's name stands before, each with its rows.
fn tables() -> Vec<(&'static str, Vec<Field>)> {
    let parts = PAGE.split("<!-- struct ").skip(1);
    let tables: Vec<(&str, Vec<Field>)> = parts
        .map(|part| {
            let (name, rest) = part.split_once(" -->\n").unwrap();
            let mut lines = rest.lines();
            assert_eq!(
                lines.next(),
                Some("| offset | bytes | field | meaning |"),
                "{name}"
            );
            assert_eq!(lines.next(), Some("|---|---|---|---|"), "{name}");
            let rows = lines.take_while(|line| line.starts_with('|')).map(row);
            (name, rows.collect())
        })
        .collect();
    // A table whose comment was lost would not be compared with anything.
    let headings = PAGE.matches("| offset | bytes | field |").count();
    assert_eq!(headings, tables.len(), "each table names its struct");
    tables
}

fn row(line: &str) -> Field {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let number = |cell: &str| {
        cell.parse()
            .unwrap_or_else(|_| panic!("a number in: {line}"))
    };
    assert!(cells.len() >= 6, "four cells in: {line}");
    (cells[3].to_owned(), number(cells[1]), number(cells[2]))
}

#[test]
fn the_dumped_commit_page_is_what_is_written() {
    let origin = Origin {
        store: std::array::from_fn(|at| 0xa0 + u8::try_from(at).unwrap()),
        incarnation: 0x1122_3344_5566_7788,
    };
    let link = Link {
        slot: 2048,
        seq: 5,
        previous: 0xcafe_0001,
    };
    let record = |first_chunk, body| Record {
        layer: 0,
        first_chunk,
        body,
    };
    let page = Page {
        epoch: 7,
        next: 2052,
        flags: commit::FIRST | commit::LAST,
        records: vec![
            record(256, Body::Slots(2050, vec![0x1111_1111, 0x2222_2222])),
            record(512, Body::Zero(256)),
        ],
    };
    let mut bytes = [0; 4096];
    commit::encode(&mut bytes, origin, link, &page);
    let dump: Vec<String> = bytes[..128]
        .chunks(16)
        .enumerate()
        .map(|(line, bytes)| {
            let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{:04x}  {}\n", line * 16, bytes.join(" "))
        })
        .collect();
    let dump = dump.concat();
    let (_, said) = PAGE.split_once("<!-- dump -->\n```text\n").unwrap();
    assert!(said.starts_with(&format!("{dump}```")), "it is:\n{dump}");
    assert!(bytes[128..].iter().all(|&byte| byte == 0));
}

/// Bits of the feature words, as the page and as the program names them.
#[test]
fn the_features_taken_have_the_codes_names() {
    for (word, names, known) in [
        ("incompat", &check::INCOMPAT_NAMES[..], KNOWN_INCOMPAT),
        ("ro_compat", &check::RO_COMPAT_NAMES, KNOWN_RO_COMPAT),
    ] {
        let rows = PAGE
            .lines()
            .filter(|line| line.starts_with(&format!("| {word} | ")));
        let said: Vec<&str> = rows.collect();
        let meant = names.iter().enumerate();
        let meant: Vec<String> = meant
            .map(|(bit, name)| {
                let built = if known >> bit & 1 == 1 {
                    ""
                } else {
                    " (not built)"
                };
                format!("| {word} | {bit} | {name}{built} |")
            })
            .collect();
        assert_eq!(said, meant);
    }
}

/// The last column of the tables under "Crashes" and "Damage".
#[test]
fn every_crash_and_damage_names_a_test_that_exists() {
    for (heading, places) in [
        (
            "Crashes",
            &[
                "src/engine/cowfile/simulation",
                "src/engine/merge/simulation",
                "tests/cowfiles",
            ][..],
        ),
        ("Damage", &["tests/cowfiles"]),
    ] {
        let mut named = tests_named_under(heading);
        assert!(named.len() >= 3, "{heading} names tests: {named:?}");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = places.iter().map(|place| fs::read_dir(root.join(place)));
        let sources: Vec<String> = files
            .flat_map(Result::unwrap)
            .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
            .collect();
        named.retain(|test| {
            let claim = format!("#[test]\nfn {test}()");
            !sources.iter().any(|source| source.contains(&claim))
        });
        assert!(named.is_empty(), "{heading}: no such tests: {named:#?}");
    }
}

/// What is named in the last column of a section's table, and in backticks with an underscore behind it.
fn tests_named_under(heading: &str) -> BTreeSet<String> {
    let (_, section) = PAGE.split_once(&format!("\n## {heading}\n")).unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let (rows, prose): (Vec<&str>, Vec<&str>) =
        section.lines().partition(|line| line.starts_with("| "));
    let cells = rows.iter().skip(1).filter_map(|row| {
        let cells = row.trim_end_matches([' ', '|']).rsplit('|');
        cells.map(str::trim).next()
    });
    let cells = cells.filter(|cell| !cell.starts_with("the same"));
    let quoted = prose
        .iter()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let quoted = quoted.filter(|word| word.matches('_').count() > 2);
    cells
        .map(|cell| cell.trim_matches('`'))
        .chain(quoted)
        .map(str::to_owned)
        .collect()
}
