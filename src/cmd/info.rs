//! `cowroot info`: what is known of a cowfile without its base, as text or JSON.

use std::fmt::Write;

use anyhow::Context;
use serde::Serialize;

use crate::cli::Info;
use crate::disk::cowfile::Mode;
use crate::engine::cowfile::check::{Census, Depth, check};
use crate::engine::format::Shape;
use crate::engine::format::description::EventKind;
use crate::engine::format::superblock::LayerState;
use crate::engine::units::CHUNK_BYTES;
use crate::media::cowfile::{Opened, open};
use crate::media::text;

/// What `--json` prints. Times are seconds since 1970.
#[derive(Serialize)]
struct Document {
    path: String,
    name: String,
    made_s: u64,
    made_by: String,
    uuid: Option<String>,
    base: Base,
    device_bytes: u64,
    layers: Vec<Layer>,
    epoch: u64,
    generation: u64,
    clean: bool,
    /// The last commit was cut off; the one before counts.
    torn: bool,
    journal_pages: usize,
    max_bytes: u64,
    grown_bytes: u64,
    /// What is in use, and what of that nothing reads any more; absent where a page does not read.
    used_bytes: Option<u64>,
    garbage_bytes: Option<u64>,
    files: Vec<FileUse>,
    features: Features,
    history: Vec<Event>,
}

#[derive(Serialize)]
struct Base {
    size_bytes: u64,
    uuid: Option<String>,
    label: Option<String>,
    samples: usize,
}

#[derive(Serialize)]
struct Layer {
    number: u8,
    name: String,
    state: &'static str,
    /// The layer below; none: the base.
    parent: Option<u8>,
    active: bool,
    made_s: Option<u64>,
    sealed_s: Option<u64>,
}

#[derive(Serialize)]
struct FileUse {
    path: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Features {
    incompat: u64,
    ro_compat: u64,
    compat: u64,
    autoclear: u64,
}

#[derive(Serialize)]
struct Event {
    at_s: u64,
    kind: &'static str,
    text: String,
}

/// Print what a cowfile is.
///
/// # Errors
/// It cannot be opened.
pub fn run(info: &Info) -> anyhow::Result<()> {
    let mut opened = open(&info.cowfile, Mode::Read, None)?;
    let report = check(&mut opened.files, Shape::PRODUCT, Depth::Pages, &mut |_| {});
    let census = report.ok().filter(|it| !it.loses()).map(|it| it.census);
    let document = document(info, &opened, census);
    if info.json {
        let json = serde_json::to_string_pretty(&document).context("writing JSON")?;
        println!("{json}");
    } else {
        print!("{}", describe(&document));
    }
    Ok(())
}

fn document(info: &Info, opened: &Opened, census: Option<Census>) -> Document {
    let (found, about) = (&opened.found, &opened.description);
    let superblock = &found.superblock;
    let bytes = |slots: u32| u64::from(slots) * CHUNK_BYTES;
    let features = superblock.features;
    Document {
        path: info.cowfile.display().to_string(),
        name: about.name.clone(),
        made_s: about.made_s,
        made_by: about.made_by.clone(),
        uuid: text::uuid(superblock.origin.store),
        base: Base {
            size_bytes: about.base.size_bytes,
            uuid: about.base.uuid.clone(),
            label: about.base.label.clone(),
            samples: about.base.samples.len(),
        },
        device_bytes: superblock.device_bytes,
        layers: layers(opened),
        epoch: found.epoch,
        generation: superblock.generation,
        clean: superblock.clean,
        torn: found.torn,
        journal_pages: found.journal.len(),
        max_bytes: bytes(superblock.max_slots),
        grown_bytes: bytes(superblock.grown_slots),
        used_bytes: census.map(|census| bytes(census.used())),
        garbage_bytes: census.map(|census| bytes(census.garbage())),
        files: files(info, opened),
        features: Features {
            incompat: features.incompat,
            ro_compat: features.ro_compat,
            compat: features.compat,
            autoclear: features.autoclear,
        },
        history: about
            .history
            .iter()
            .map(|event| Event {
                at_s: event.at_s,
                kind: kind(event.kind),
                text: event.text.clone(),
            })
            .collect(),
    }
}

fn layers(opened: &Opened) -> Vec<Layer> {
    let superblock = &opened.found.superblock;
    let layers = (0..).zip(&superblock.layers);
    layers
        .filter_map(|(number, layer)| {
            let layer = (*layer)?;
            let mut names = opened.description.layers.iter();
            let known = names.find(|name| name.number == number);
            Some(Layer {
                number,
                name: known.map(|known| known.name.clone()).unwrap_or_default(),
                state: match layer.state {
                    LayerState::Active => "active",
                    LayerState::Sealed => "sealed",
                },
                parent: layer.parent,
                active: number == superblock.active_layer,
                made_s: known.map(|known| known.made_s),
                sealed_s: known.and_then(|known| known.sealed_s),
            })
        })
        .collect()
}

fn files(info: &Info, opened: &Opened) -> Vec<FileUse> {
    let path = |number: usize| match number {
        0 => info.cowfile.display().to_string(),
        number => format!("{}.{number}", info.cowfile.display()),
    };
    let bytes = |file: &std::fs::File| {
        crate::sys::block_device_size_bytes(file)
            .or_else(|_| file.metadata().map(|metadata| metadata.len()))
            .unwrap_or_default()
    };
    let files = opened.files.files().iter().enumerate();
    files
        .map(|(number, file)| FileUse {
            path: path(number),
            bytes: bytes(file),
        })
        .collect()
}

fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Made => "made",
        EventKind::Opened => "opened",
        EventKind::Sealed => "sealed",
        EventKind::Merged => "merged",
        EventKind::Repaired => "repaired",
    }
}

/// A cowfile for people.
fn describe(it: &Document) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(
            lines,
            "  {name:<8} {}",
            value.replace(char::is_control, "?")
        );
    };
    let none = || "none".to_owned();
    let unknown = || "unknown (a page does not read: see cowroot check)".to_owned();
    let size = |bytes: Option<u64>| bytes.map_or_else(unknown, text::size);
    line("name", it.name.clone());
    line(
        "made",
        format!("{} by version {}", date(it.made_s), it.made_by),
    );
    line("uuid", it.uuid.clone().unwrap_or_else(none));
    line(
        "base",
        format!(
            "{}, label {}, uuid {}, known by {} samples",
            text::size(it.base.size_bytes),
            it.base.label.clone().unwrap_or_else(none),
            it.base.uuid.clone().unwrap_or_else(none),
            it.base.samples
        ),
    );
    line("device", text::size(it.device_bytes));
    for layer in &it.layers {
        let parent = layer
            .parent
            .map_or("the base".to_owned(), |n| format!("layer {n}"));
        let sealed = layer
            .sealed_s
            .map_or(String::new(), |at| format!(", sealed {}", date(at)));
        let made = layer
            .made_s
            .map_or(String::new(), |at| format!(", made {}", date(at)));
        let Layer {
            number,
            name,
            state,
            ..
        } = layer;
        line(
            "layer",
            format!("{number} '{name}': {state}, on {parent}{made}{sealed}"),
        );
    }
    let state = match (it.clean, it.torn) {
        (true, _) => "clean",
        (false, false) => "in use when it was left",
        (false, true) => {
            "in use when it was left; the last commit was cut off, the one before counts"
        }
    };
    line("state", state.to_owned());
    let pages = it.journal_pages;
    line(
        "epoch",
        format!(
            "{}, generation {}, {pages} pages of journal",
            it.epoch, it.generation
        ),
    );
    line(
        "space",
        format!(
            "at most {}, grown to {}",
            text::size(it.max_bytes),
            text::size(it.grown_bytes)
        ),
    );
    line("used", size(it.used_bytes));
    line("garbage", size(it.garbage_bytes));
    for file in &it.files {
        line("file", format!("{}: {}", file.path, text::size(file.bytes)));
    }
    let Features {
        incompat,
        ro_compat,
        compat,
        autoclear,
    } = it.features;
    let words = format!(
        "incompat {incompat:#x}, ro_compat {ro_compat:#x}, compat {compat:#x}, autoclear {autoclear:#x}"
    );
    line("features", words);
    for event in &it.history {
        line(
            "history",
            format!("{} {}: {}", date(event.at_s), event.kind, event.text),
        );
    }
    format!("{}\n{lines}", it.path)
}

/// A day and time of UTC; days to dates as Howard Hinnant has it.
pub(super) fn date(at_s: u64) -> String {
    let (days, second) = (at_s / 86_400 + 719_468, at_s % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(1_700_000_000), "2023-11-14 22:13 UTC");
        assert_eq!(date(1_709_164_800), "2024-02-29 00:00 UTC");
    }
}
