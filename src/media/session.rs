//! Sessions: the layers of a cowfile by their names, and what people do with them.

mod in_use;
mod wish;

use std::path::Path;

use anyhow::{Context, bail};

use super::cowfile::{self, Opened};
use super::create::shortened;
use super::import::PART;
use crate::disk::cowfile::Mode;
use crate::engine::cowfile::layers::kept::is_mixed;
use crate::engine::cowfile::layers::{self, Edit, NotDone};
use crate::engine::format::description::{
    Description, Event, EventKind, LONGEST_NAME, LONGEST_TEXT, LayerName, room,
};
use crate::engine::format::superblock::{MAX_LAYERS, Superblock};
use crate::engine::format::{Entry, Shape};
use crate::sys;

pub use in_use::{Planned, begin_in_use, rename_in_use};
pub use wish::{Wish, valid};

/// What stands for the base where a session is named.
pub const BASE: &str = "base";

/// What to do with sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Begin an empty one, named or not, on this one or else on the one that takes the writes.
    New(Option<&'a str>, Option<&'a str>),
    /// Let this one take the writes.
    Resume(&'a str),
    /// This one, or the one that takes the writes, never takes any again.
    Seal(Option<&'a str>),
    /// Call this one that.
    Rename(&'a str, &'a str),
    /// Drop what was written to the one that takes the writes.
    RollBack,
    /// Drop this one.
    Delete(&'a str),
}

/// What a session is called that was begun on another only because that one is being merged: it stands in for it.
#[must_use]
pub fn stand_in_for(name: &str) -> String {
    part_name(name, "-on-top")
}

/// Who stands in for a session, if somebody does.
fn stand_in(opened: &Opened, name: &str) -> Option<String> {
    let (below, stand_in) = (number_of(opened, name).ok()?, stand_in_for(name));
    let number = number_of(opened, &stand_in).ok()?;
    let parent = opened.found.superblock.layer(number)?.parent;
    (parent == Some(below)).then_some(stand_in)
}

/// What people call a layer.
#[must_use]
pub fn name_of(description: &Description, number: u8) -> String {
    let mut layers = description.layers.iter();
    let found = layers.find(|layer| layer.number == number);
    found.map_or_else(|| format!("layer-{number}"), |layer| layer.name.clone())
}

/// The name of the session that takes the writes.
#[must_use]
pub fn active_name(opened: &Opened) -> String {
    name_of(&opened.description, opened.found.superblock.active_layer)
}

fn number_of(opened: &Opened, name: &str) -> anyhow::Result<u8> {
    let layers = (0..).zip(&opened.found.superblock.layers);
    let numbers = layers.filter(|(_, layer)| layer.is_some()).map(|it| it.0);
    let known: Vec<(u8, String)> = numbers
        .map(|number| (number, name_of(&opened.description, number)))
        .collect();
    let found = known.iter().find(|(_, known)| known == name);
    // Whoever has no name for it has its number.
    let by_number = || known.iter().find(|(number, _)| name.parse() == Ok(*number));
    match found.or_else(by_number) {
        Some((number, _)) => Ok(*number),
        None => {
            let names: Vec<String> = known.iter().map(|(_, name)| format!("'{name}'")).collect();
            bail!("there is no session '{name}', but {}", names.join(", "))
        }
    }
}

/// See what this session saw, and nothing that was written on it. For reading only.
///
/// # Errors
/// There is no such session.
pub fn look_at(opened: &mut Opened, name: &str) -> anyhow::Result<()> {
    let number = number_of(opened, name)?;
    if is_mixed(&opened.found.superblock, number) {
        bail!(
            "session '{name}' is below one that is merged into the base, which has other content by now"
        );
    }
    opened.found.look_at(number);
    Ok(())
}

/// Let the session take the writes that somebody wishes; or be looked at, where nothing is written.
///
/// # Errors
/// There is no such session, or it cannot be. Nothing has changed then.
pub fn choose(path: &Path, mut opened: Opened, wish: &Wish) -> anyhow::Result<Opened> {
    let choosing = || format!("choosing session '{wish}' of cowfile '{}'", path.display());
    let reads = opened.files.mode() == Mode::Read;
    let active = active_name(&opened);
    if active.ends_with(PART) && !matches!(wish, Wish::Resume(Some(_))) {
        bail!(
            "{}: session '{active}' is an import that was cut off, and would take the writes; choose another with \
             resume:NAME and delete that one, or rename it to use it as it is",
            choosing()
        );
    }
    let mut wanted = wish.clone();
    if let Wish::Resume(Some(name)) = &mut wanted
        && !reads
        && let Some(stand_in) = stand_in(&opened, name)
    {
        *name = stand_in;
    }
    let action = match &wanted {
        Wish::Resume(None) | Wish::Throwaway => return Ok(opened),
        Wish::Resume(Some(name)) if reads => {
            look_at(&mut opened, name).with_context(choosing)?;
            return Ok(opened);
        }
        Wish::Resume(Some(name)) if active_name(&opened) == *name => return Ok(opened),
        Wish::Resume(Some(name)) => Action::Resume(name),
        Wish::New(_) if reads => bail!("{}: the device is to be read only", choosing()),
        // There is nothing to begin over.
        Wish::New(None) if is_empty(&opened) => return Ok(opened),
        Wish::New(name) => Action::New(name.as_deref(), None),
    };
    let (opened, said) = change(path, opened, &action)?;
    log::info!("cowfile '{}': {said}", path.display());
    Ok(opened)
}

/// Whether nothing was written to the session that takes the writes.
fn is_empty(opened: &Opened) -> bool {
    let mut layers = opened.found.superblock.roots();
    let root = layers.next().map(|(_, root)| root);
    root == Some(Entry::ABSENT) && opened.found.delta.is_empty()
}

/// Do something with a cowfile's sessions. One that was not closed is closed before. Says in words what was done.
///
/// # Errors
/// Why not; the sessions are as they were.
pub fn change(
    path: &Path,
    opened: Opened,
    action: &Action<'_>,
) -> anyhow::Result<(Opened, String)> {
    let doing = || format!("changing the sessions of cowfile '{}'", path.display());
    let mut opened = closed(path, opened).with_context(doing)?;
    let edit = edit_of(&opened, action).with_context(doing)?;
    let mut planned = layers::planned(&opened.found, edit)
        .map_err(|why| anyhow::anyhow!(words(&opened.description, why)))
        .with_context(doing)?;
    let before = opened.found.superblock.active_layer;
    let about = &mut opened.description;
    let said = describe(about, (edit, before), &planned, action).with_context(doing)?;
    planned.description = opened
        .description
        .encode(room(Shape::PRODUCT))
        .map_err(|fault| anyhow::anyhow!("{}: {fault}", doing()))?;
    layers::write(&mut opened.files, &opened.found, planned)
        .map_err(|why| anyhow::anyhow!(words(&opened.description, why)))
        .with_context(doing)?;
    drop(opened);
    Ok((cowfile::open(path, Mode::Write, None)?, said))
}

/// The same cowfile, closed in order.
fn closed(path: &Path, mut opened: Opened) -> anyhow::Result<Opened> {
    let found = &opened.found;
    if found.superblock.clean && found.delta.is_empty() && !found.torn {
        return Ok(opened);
    }
    log::info!(
        "cowfile '{}' was not closed: its last session ended in a power cut or a forced end",
        path.display()
    );
    opened.settle()?;
    Ok(opened)
}

fn edit_of(opened: &Opened, action: &Action<'_>) -> anyhow::Result<Edit> {
    let number = |name| number_of(opened, name);
    let active = opened.found.superblock.active_layer;
    Ok(match *action {
        Action::New(name, on) => {
            if let Some(name) = name {
                require_free(opened, name)?;
            }
            match on {
                None => Edit::Begin(Some(active)),
                Some(BASE) => Edit::Begin(None),
                Some(below) => Edit::Begin(Some(number(below)?)),
            }
        }
        Action::Resume(name) => Edit::Activate(number(name)?),
        Action::Seal(None) => Edit::Begin(Some(active)),
        Action::Seal(Some(name)) => match number(name)? {
            number if number == active => Edit::Begin(Some(active)),
            number => Edit::Seal(number),
        },
        Action::Rename(from, to) => {
            number(from)?;
            require_free(opened, to)?;
            Edit::Describe
        }
        Action::RollBack => Edit::RollBack,
        Action::Delete(name) => Edit::Drop(number(name)?),
    })
}

/// A name for one that is to be called `name` when it is whole.
#[must_use]
pub fn part_name(name: &str, end: &str) -> String {
    shortened(name, LONGEST_NAME - end.len()) + end
}

/// There is none of this name, and there may be.
///
/// # Errors
/// Why it cannot be one's name.
pub fn require_free(opened: &Opened, name: &str) -> anyhow::Result<()> {
    valid(name).map_err(anyhow::Error::msg)?;
    match number_of(opened, name) {
        Ok(_) => bail!("there is a session '{name}' already"),
        Err(_) => Ok(()),
    }
}

/// What is known of the layers after an edit, and what was done, in words. `before` took the writes.
fn describe(
    about: &mut Description,
    (edit, before): (Edit, u8),
    planned: &Superblock,
    action: &Action<'_>,
) -> anyhow::Result<String> {
    let kind = match edit {
        Edit::Begin(_) | Edit::Seal(_) => Some(EventKind::Sealed),
        Edit::Drop(_) | Edit::RollBack => Some(EventKind::Dropped),
        Edit::Activate(_) | Edit::Describe | Edit::AskMerge(_) => None,
    };
    let active = planned.active_layer;
    let said = match edit {
        Edit::Begin(below) => {
            let name = match *action {
                Action::New(name, _) => name,
                _ => None,
            };
            return begun(about, (active, below), name);
        }
        Edit::Seal(number) => {
            seal(about, number);
            let name = name_of(about, number);
            format!("session '{name}' is sealed: it takes no writes any more")
        }
        Edit::Activate(number) => format!("session '{}' takes the writes", name_of(about, number)),
        Edit::Drop(number) => {
            let name = name_of(about, number);
            format!("session '{name}' is gone with all that was written to it")
        }
        Edit::RollBack if active == before => {
            let name = name_of(about, before);
            format!("session '{name}' is empty: what was written to it is gone")
        }
        Edit::RollBack => {
            // Whoever was sealed to be stood on is not any more.
            for layer in about.layers.iter_mut().filter(|it| it.number == active) {
                layer.sealed_s = None;
            }
            let (gone, name) = (name_of(about, before), name_of(about, active));
            format!(
                "session '{gone}' is gone with all that was written to it; '{name}' takes the writes"
            )
        }
        Edit::Describe | Edit::AskMerge(_) => match *action {
            Action::Rename(from, to) => renamed(about, from, to),
            _ => bail!("nothing has changed"),
        },
    };
    about.layers.retain(|layer| {
        let place = planned.layers.get(usize::from(layer.number));
        place.is_some_and(Option::is_some)
    });
    remember(about, kind, &said);
    Ok(said)
}

/// A session began as layer `number` on another, or on the base. Says so in words.
///
/// # Errors
/// There is no name for it.
fn begun(
    about: &mut Description,
    (number, below): (u8, Option<u8>),
    name: Option<&str>,
) -> anyhow::Result<String> {
    let name = name.map_or_else(|| unused_name(about), |name| Ok(name.to_owned()))?;
    let on = below.map_or(BASE.to_owned(), |below| name_of(about, below));
    if let Some(below) = below {
        seal(about, below);
    }
    let said = format!("session '{name}' begins on '{on}' and takes the writes");
    about.layers.push(LayerName {
        number,
        name,
        made_s: sys::now_s(),
        sealed_s: None,
    });
    remember(about, Some(EventKind::Sealed), &said);
    Ok(said)
}

/// Call a session something else. Says so in words.
fn renamed(about: &mut Description, from: &str, to: &str) -> String {
    for layer in about.layers.iter_mut().filter(|it| it.name == from) {
        to.clone_into(&mut layer.name);
    }
    format!("session '{from}' is called '{to}'")
}

fn remember(about: &mut Description, kind: Option<EventKind>, text: &str) {
    about.history.extend(kind.map(|kind| Event {
        at_s: sys::now_s(),
        kind,
        text: shortened(text, LONGEST_TEXT),
    }));
}

fn seal(about: &mut Description, number: u8) {
    for layer in about.layers.iter_mut().filter(|it| it.number == number) {
        layer.sealed_s.get_or_insert(sys::now_s());
    }
}

/// A name for a session that nobody named.
fn unused_name(about: &Description) -> anyhow::Result<String> {
    let mut names = (2..).map(|number| format!("session-{number}"));
    let is_free = |name: &String| about.layers.iter().all(|layer| layer.name != *name);
    names
        .find(is_free)
        .context("naming a session: all names are taken")
}

fn words(about: &Description, why: NotDone) -> String {
    match why {
        NotDone::NotClosed => "it was not closed".into(),
        NotDone::ReadOnly => "a newer cowroot has to write it; use that".into(),
        NotDone::TooMany => format!("there are {MAX_LAYERS} sessions already; merge or delete one"),
        NotDone::Absent => "there is no such session".into(),
        NotDone::Active => {
            "it takes the writes; `cowroot session rollback` drops what was written to it".into()
        }
        NotDone::Sealed => "it is sealed; begin one on it: `cowroot session new --on`".into(),
        NotDone::InUse(other) => format!(
            "session '{}' stands on it, and would not make sense without it; delete that first, or begin another on \
             the same one with `cowroot session new --on`",
            name_of(about, other)
        ),
        NotDone::Merged => "it is in the base already, and will soon be gone".into(),
        NotDone::Merging => "a merge into the base is under way; let that end first".into(),
        NotDone::Failed(_) => "its medium does not take writes".into(),
        NotDone::Implausible => {
            "nothing would open it afterwards: this is a bug in cowroot; nothing was written".into()
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
