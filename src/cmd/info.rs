//! `cowroot info`: what is known of a cowfile without its base, as text or JSON.

use anyhow::Context;
use serde::Serialize;

use crate::cli::Info;
use crate::disk::cowfile::Mode;
use crate::engine::cowfile::check::{Census, Depth, check};
use crate::engine::format::Shape;
use crate::engine::format::description::EventKind;
use crate::engine::format::superblock::{LayerState, Merge, MergeState};
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
    /// Up to which layer a merge is asked for, or under way.
    merge: Option<MergeInfo>,
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
struct MergeInfo {
    state: &'static str,
    up_to_layer: u8,
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
        merge: merge(superblock.merge),
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
                    LayerState::Sealed if superblock.merge.keeps(number) => "merged",
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

fn merge(merge: Merge) -> Option<MergeInfo> {
    let state = match merge.state {
        MergeState::None => return None,
        MergeState::Asked => "asked for at the next boot",
        MergeState::UnderWay => "under way",
    };
    Some(MergeInfo {
        state,
        up_to_layer: merge.top,
    })
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
        EventKind::Dropped => "dropped",
    }
}

/// A cowfile for people.
fn describe(it: &Document) -> String {
    let mut lines = vec![it.path.clone()];
    lines.extend(whose(it));
    lines.extend(it.layers.iter().map(layer_line));
    lines.extend(it.merge.iter().map(|merge| {
        line(
            "merge",
            &format!("up to layer {}: {}", merge.up_to_layer, merge.state),
        )
    }));
    lines.extend(state(it));
    lines.extend(it.history.iter().map(|event| {
        let Event { at_s, kind, text } = event;
        line("history", &format!("{} {kind}: {text}", text::date(*at_s)))
    }));
    lines.join("\n") + "\n"
}

/// Without what would drive a terminal: names come from the medium.
fn line(name: &str, value: &str) -> String {
    format!("  {name:<8} {}", value.replace(char::is_control, "?"))
}

fn whose(it: &Document) -> [String; 5] {
    let or_none = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
    let Base {
        size_bytes,
        uuid,
        label,
        samples,
    } = &it.base;
    let base = format!(
        "{}, label {}, uuid {}, known by {samples} samples",
        text::size(*size_bytes),
        or_none(label),
        or_none(uuid)
    );
    let made = format!("{} by version {}", text::date(it.made_s), it.made_by);
    [
        line("name", &it.name),
        line("made", &made),
        line("uuid", &or_none(&it.uuid)),
        line("base", &base),
        line("device", &text::size(it.device_bytes)),
    ]
}

fn layer_line(layer: &Layer) -> String {
    let when = |what: &str, at_s: Option<u64>| {
        at_s.map_or(String::new(), |at| format!(", {what} {}", text::date(at)))
    };
    let parent = layer
        .parent
        .map_or("the base".to_owned(), |number| format!("layer {number}"));
    let value = format!(
        "{} '{}': {}, on {parent}{}{}",
        layer.number,
        layer.name,
        layer.state,
        when("made", layer.made_s),
        when("sealed", layer.sealed_s)
    );
    line("layer", &value)
}

fn state(it: &Document) -> Vec<String> {
    let state = match (it.clean, it.torn) {
        (true, _) => "clean",
        (false, false) => "in use when it was left",
        (false, true) => "in use when it was left; of a commit that was cut off nothing counts",
    };
    let size = |bytes: Option<u64>| {
        let unknown = || "unknown (a page does not read: see cowroot check)".to_owned();
        bytes.map_or_else(unknown, text::size)
    };
    let (epoch, generation, pages) = (it.epoch, it.generation, it.journal_pages);
    let counts = format!("{epoch}, generation {generation}, {pages} pages of journal");
    let (most, grown) = (text::size(it.max_bytes), text::size(it.grown_bytes));
    let mut lines = vec![
        line("state", state),
        line("epoch", &counts),
        line("space", &format!("at most {most}, grown to {grown}")),
        line("used", &size(it.used_bytes)),
        line("garbage", &size(it.garbage_bytes)),
    ];
    let files = it.files.iter();
    lines.extend(files.map(|file| {
        line(
            "file",
            &format!("{}: {}", file.path, text::size(file.bytes)),
        )
    }));
    let features = &it.features;
    for (word, bits) in [
        ("incompat", features.incompat),
        ("ro_compat", features.ro_compat),
        ("compat", features.compat),
        ("autoclear", features.autoclear),
    ] {
        if bits != 0 {
            lines.push(line("feature", &format!("{word} {bits:#x}")));
        }
    }
    lines
}
