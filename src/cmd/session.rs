//! `cowroot session`: the sessions of a cowfile, listed and changed.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;

use super::progress::Progress;
use crate::cli::session::{Action, Export, Import, New, Session};
use crate::daemon::protocol::{Answer, Question, ask};
use crate::disk::cowfile::Mode;
use crate::disk::target::sync_folder;
use crate::engine::format::description::Description;
use crate::engine::format::superblock::{DESCRIPTION_VERSION, LayerState, Superblock};
use crate::engine::units::CHUNK_BYTES;
use crate::media::cowfile::open;
use crate::media::session::{self, BASE, name_of};
use crate::media::{export, import, text};

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
        Action::List(list) => {
            if let Some(id) = super::device_in_use(&list.cowfile)? {
                return show(&rows_in_use(id)?, list.json);
            }
            let opened = open(&list.cowfile, Mode::Read, None)?;
            let rows = rows(&opened.found.superblock, &opened.description);
            show(&rows, list.json)
        }
        Action::New(new) => {
            if let Some(id) = super::device_in_use(&new.cowfile)? {
                return begin_in_use(id, new);
            }
            let (name, on) = (new.name.as_deref(), new.on.as_deref());
            change(&new.cowfile, &Do::New(name, on))
        }
        Action::Seal(seal) => change(&seal.cowfile, &Do::Seal(seal.session.as_deref())),
        Action::Rename(it) => {
            if let Some(id) = super::device_in_use(&it.cowfile)? {
                super::require_root("renaming a session")?;
                let question = Question::RenameSession(it.session.clone(), it.name.clone());
                return super::say_answer(id, &question, "renaming a session");
            }
            change(&it.cowfile, &Do::Rename(&it.session, &it.name))
        }
        Action::Rollback(it) => change(&it.cowfile, &Do::RollBack),
        Action::Delete(it) => change(&it.cowfile, &Do::Delete(&it.session)),
        Action::Export(it) => export(it),
        Action::Import(it) => import(it),
    }
}

/// Begin a session while its device is in use.
fn begin_in_use(id: u32, new: &New) -> anyhow::Result<()> {
    if new.on.is_some() {
        bail!(
            "beginning a session of /dev/ublkb{id}: while it is in use one begins on what is there; leave --on out"
        );
    }
    super::require_root("beginning a session")?;
    super::say_answer(
        id,
        &Question::NewSession(new.name.clone()),
        "beginning a session",
    )
}

fn change(cowfile: &Path, action: &session::Action<'_>) -> anyhow::Result<()> {
    let opened = open(cowfile, Mode::Write, None)?;
    let (_, said) = session::change(cowfile, opened, action)?;
    println!("{said}");
    Ok(())
}

fn export(it: &Export) -> anyhow::Result<()> {
    let to = it.output.display();
    let exporting = || {
        format!(
            "exporting a session of cowfile '{}' to '{to}'",
            it.cowfile.display()
        )
    };
    let mut opened = open(&it.cowfile, Mode::Read, None)?;
    if let Some(name) = &it.session {
        session::look_at(&mut opened, name).with_context(exporting)?;
    }
    let name = session::active_name(&opened);
    let mut shown = Progress::new("exporting", opened.found.superblock.device_bytes);
    let chunks = write_new(&it.output, |out| {
        export::write(opened, out, &mut |done| shown.at(done))
    });
    shown.done();
    let changes = text::size(chunks.with_context(exporting)? * CHUNK_BYTES);
    println!("session '{name}' is in '{to}': {changes} of changes");
    Ok(())
}

/// Write a file that is not there before it is whole, and durable.
fn write_new<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if path.try_exists()? {
        bail!("there is something of that name already, which is left as it is");
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = File::create_new(&part).with_context(|| {
        format!(
            "making '{}', which an export that was cut off may have left",
            part.display()
        )
    })?;
    let written = Ok(written)
        .and_then(|file| {
            let mut out = BufWriter::new(file);
            let written = write(&mut out)?;
            let file = out.into_inner().map_err(|error| error.into_error())?;
            file.sync_all()?;
            Ok(written)
        })
        .and_then(|written| {
            std::fs::rename(&part, path)?;
            sync_folder(path)?;
            Ok(written)
        });
    written.inspect_err(|_| {
        // It holds nothing that is whole; where this fails, too, the next export writes over it.
        let _ = std::fs::remove_file(&part);
    })
}

fn import(it: &Import) -> anyhow::Result<()> {
    let reading = || format!("reading '{}'", it.file.display());
    let file = File::open(&it.file).with_context(reading)?;
    let (export, head) = export::Export::open(BufReader::new(file)).with_context(reading)?;
    let opened = open(&it.cowfile, Mode::Write, None)?;
    let mut shown = Progress::new("importing", head.device_bytes);
    let said = import::import(
        &it.cowfile,
        opened,
        (export, head),
        it.name.as_deref(),
        &mut |done| shown.at(done),
    );
    shown.done();
    println!("{}", said?);
    Ok(())
}

/// The sessions of a device that is served.
fn rows_in_use(id: u32) -> anyhow::Result<Vec<Row>> {
    let listing = || format!("listing the sessions of /dev/ublkb{id}");
    super::require_root("asking for sessions")?;
    match ask(id, &Question::Sessions)? {
        Some(Answer::Superblock(slot, bytes)) => {
            let superblock = Superblock::decode(&bytes, slot);
            let superblock =
                superblock.with_context(|| format!("{}: its answer is damaged", listing()))?;
            let about = Description::decode(DESCRIPTION_VERSION, &superblock.description)
                .map_err(|fault| anyhow::anyhow!("{}: {fault}", listing()))?;
            Ok(rows(&superblock, &about))
        }
        Some(Answer::Refused(why) | Answer::Failed(why)) => bail!("{}: {why}", listing()),
        Some(_) => bail!("{}: its daemon answered something else", listing()),
        None => bail!("{}: cowroot serves no such device", listing()),
    }
}

fn show(rows: &[Row], json: bool) -> anyhow::Result<()> {
    if json {
        let json = serde_json::to_string_pretty(rows).context("writing JSON")?;
        println!("{json}");
    } else {
        print!("{}", rows.iter().map(line).collect::<String>());
    }
    Ok(())
}

/// The sessions, each behind the one it stands on.
fn rows(superblock: &Superblock, about: &Description) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut todo = vec![None];
    while let Some(below) = todo.pop() {
        for (number, layer) in (0..).zip(&superblock.layers) {
            let Some(layer) = layer.filter(|layer| layer.parent == below) else {
                continue;
            };
            let mut known = about.layers.iter();
            let known = known.find(|known| known.number == number);
            rows.push(Row {
                name: name_of(about, number),
                on: below.map(|below| name_of(about, below)),
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
        .map_or(String::new(), |at| format!(", made {}", text::date(at)));
    let text = format!("{} on {on}: {state}{made}", row.name);
    text.replace(char::is_control, "?") + "\n"
}
