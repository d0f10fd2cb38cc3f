//! `cowroot session`: the sessions of a cowfile, listed and changed.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::info::date;
use crate::cli::session::{Action, Session};
use crate::disk::cowfile::Mode;
use crate::engine::format::superblock::LayerState;
use crate::media::cowfile::{Opened, open};
use crate::media::session::{self, BASE, name_of};

/// What `list --json` prints. Times are seconds since 1970.
#[derive(Serialize)]
struct Row {
    name: String,
    /// The session it stands on; none: the base.
    on: Option<String>,
    /// It takes the writes.
    active: bool,
    sealed: bool,
    made_s: Option<u64>,
    sealed_s: Option<u64>,
}

/// List or change the sessions of a cowfile.
///
/// # Errors
/// It cannot be opened, or what was asked for cannot be done; the sessions are as they were then.
pub fn run(options: &Session) -> anyhow::Result<()> {
    use session::Action as Do;
    match &options.action {
        Action::List(list) => show(&list.cowfile, list.json),
        Action::New(new) => {
            let (name, on) = (new.name.as_deref(), new.on.as_deref());
            change(&new.cowfile, &Do::New(name, on))
        }
        Action::Seal(seal) => change(&seal.cowfile, &Do::Seal(seal.session.as_deref())),
        Action::Rename(it) => change(&it.cowfile, &Do::Rename(&it.session, &it.name)),
        Action::Rollback(it) => change(&it.cowfile, &Do::RollBack),
        Action::Delete(it) => change(&it.cowfile, &Do::Delete(&it.session)),
    }
}

fn change(cowfile: &Path, action: &session::Action<'_>) -> anyhow::Result<()> {
    let opened = open(cowfile, Mode::Write, None)?;
    let (_, said) = session::change(cowfile, opened, action)?;
    println!("{said}");
    Ok(())
}

fn show(cowfile: &Path, json: bool) -> anyhow::Result<()> {
    let rows = rows(&open(cowfile, Mode::Read, None)?);
    if json {
        let json = serde_json::to_string_pretty(&rows).context("writing JSON")?;
        println!("{json}");
    } else {
        print!("{}", rows.iter().map(line).collect::<String>());
    }
    Ok(())
}

/// The sessions, each behind the one it stands on.
fn rows(opened: &Opened) -> Vec<Row> {
    let superblock = &opened.found.superblock;
    let mut rows = Vec::new();
    let mut todo = vec![None];
    while let Some(below) = todo.pop() {
        for (number, layer) in (0..).zip(&superblock.layers) {
            let Some(layer) = layer.filter(|layer| layer.parent == below) else {
                continue;
            };
            let mut known = opened.description.layers.iter();
            let known = known.find(|known| known.number == number);
            rows.push(Row {
                name: name_of(&opened.description, number),
                on: below.map(|below| name_of(&opened.description, below)),
                active: number == superblock.active_layer,
                sealed: layer.state == LayerState::Sealed,
                made_s: known.map(|known| known.made_s),
                sealed_s: known.and_then(|known| known.sealed_s),
            });
            todo.push(Some(number));
        }
    }
    rows
}

/// A session for people; names come from the medium, and must not drive a terminal.
fn line(row: &Row) -> String {
    let on = row.on.as_deref().unwrap_or(BASE);
    let state = match (row.active, row.sealed) {
        (true, _) => "takes the writes",
        (false, true) => "sealed",
        (false, false) => "takes none now",
    };
    let made = row
        .made_s
        .map_or(String::new(), |at| format!(", made {}", date(at)));
    let text = format!("{} on {on}: {state}{made}", row.name);
    text.replace(char::is_control, "?") + "\n"
}
