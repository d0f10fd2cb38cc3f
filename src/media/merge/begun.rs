//! What superblocks and descriptions say before, during and after a merge.

use std::path::Path;

use anyhow::{Context, bail};

use super::words;
use super::{Both, Report};
use crate::disk::cowfile::Mode;
use crate::engine::cowfile::layers::{Edit, merging};
use crate::engine::format::description::{
    Description, Event, EventKind, Identity, LONGEST_NAME, LONGEST_TEXT, LayerName, room,
};
use crate::engine::format::superblock::{DESCRIPTION_VERSION, Merge, MergeState, Superblock};
use crate::engine::format::{Entry, Shape};
use crate::engine::merge::needs_layer;
use crate::media::cowfile::{self, Opened};
use crate::media::create::shortened;
use crate::media::session;
use crate::sys;

/// What the kept layer of a merged session is called besides.
const MERGED: &str = " (merged)";

/// Before a cowfile is served: what a merge kept is dropped when its time has come; and while one is under way writes
/// go to a layer on top of what is merged.
///
/// # Errors
/// Its superblocks cannot be written.
pub fn make_ready(path: &Path, mut opened: Opened) -> anyhow::Result<Opened> {
    let doing = || format!("making cowfile '{}' ready", path.display());
    if needs_layer(&opened.found.superblock) {
        let stand_in = session::stand_in_for(&session::active_name(&opened));
        let name = session::require_free(&opened, &stand_in).map(|()| stand_in.as_str());
        let action = session::Action::New(name.ok(), None);
        opened = session::change(path, opened, &action)
            .with_context(doing)?
            .0;
        log::info!(
            "cowfile '{}': a merge into its base is under way; what is written now goes to a session on top",
            path.display()
        );
    }
    if merging::aged(&opened.found.superblock).is_none() {
        return Ok(opened);
    }
    // Where every session ends with the power its next detach never comes; what is kept has to go all the same.
    let closing = || {
        format!(
            "{} (a boot with cowroot.session=throwaway writes nothing to it)",
            doing()
        )
    };
    if !opened.settle_in_place().with_context(closing)? {
        log::info!(
            "cowfile '{}': what a merge kept is kept on, for there is no room to close it first",
            path.display()
        );
        return Ok(opened);
    }
    let Some(mut aged) = merging::aged(&opened.found.superblock) else {
        return Ok(opened);
    };
    let mut about = opened.description.clone();
    about
        .layers
        .retain(|layer| aged.layer(layer.number).is_some());
    aged.description = encoded(&about)?;
    let written = merging::age(&mut opened.files, &opened.found, aged);
    written
        .map_err(|why| words::refused(&opened, why))
        .with_context(doing)?;
    opened.look_again().with_context(doing)?;
    Ok(opened)
}

/// What makes the description for the base that was merged into.
pub(super) fn after(
    both: &Both,
    path: &Path,
    report: &Report,
) -> anyhow::Result<impl Fn(Identity) -> Result<Vec<u8>, String> + use<>> {
    let superblock = &both.opened.found.superblock;
    let merge = both.merge;
    let merged = merging::merged_with(superblock, merge.top);
    let active = superblock.active_layer;
    let mut about = both.opened.description.clone();
    let dropped =
        |number: u8| superblock.merge.keeps(number) || merge.frees && merged.contains(&number);
    let name = session::name_of(&both.opened.description, active);
    about.layers.retain(|layer| !dropped(layer.number));
    let top = session::name_of(&both.opened.description, merge.top);
    for layer in &mut about.layers {
        let below = superblock.layer(layer.number).and_then(|it| it.parent);
        if layer.name == session::stand_in_for(&top) && below == Some(merge.top) {
            // It is what that one would have become.
            layer.name.clone_from(&top);
        } else if merged.contains(&layer.number) {
            layer.name = with_suffix(&layer.name, MERGED);
            layer.sealed_s.get_or_insert(sys::now_s());
        }
    }
    if merged.contains(&active) {
        let mut without = superblock.clone();
        for (number, place) in (0..).zip(&mut without.layers) {
            if superblock.merge.keeps(number) {
                *place = None;
            }
        }
        let fresh = merging::fresh_number(&without, merge.frees);
        about.layers.push(LayerName {
            number: fresh.context(
                "all layers of the cowfile are in use; --free drops the merged ones at once",
            )?,
            name,
            made_s: sys::now_s(),
            sealed_s: None,
        });
    }
    let sessions = report.sessions.join(", ");
    about.history.push(Event {
        at_s: sys::now_s(),
        kind: EventKind::Merged,
        text: shortened(
            &format!("{sessions} into '{}'", path.display()),
            LONGEST_TEXT,
        ),
    });
    Ok(move |identity| {
        let about = Description {
            base: identity,
            ..about.clone()
        };
        encoded(&about).map_err(|error| format!("{error:#}"))
    })
}

/// What a boot is to merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The topmost layer.
    pub top: u8,
    /// Drop the merged layers at once.
    pub frees: bool,
    /// It was begun.
    pub is_under_way: bool,
    /// Somebody asked for it, and it was not begun.
    pub is_asked: bool,
}

/// What a boot is to merge of a cowfile: what was begun, or asked for; or all there is, if `always`.
///
/// # Errors
/// What was begun can only go on with its undo log.
pub fn due(cow: &Path, always: bool) -> anyhow::Result<Option<Due>> {
    // Whoever serves it says what is wrong with it.
    let Ok(opened) = cowfile::open(cow, Mode::Read, None) else {
        return Ok(None);
    };
    let superblock = &opened.found.superblock;
    let merge = superblock.merge;
    if merge.state == MergeState::UnderWay && merge.is_logged {
        bail!("cowfile '{}': {}", cow.display(), words::ONLY_WITH_ITS_LOG);
    }
    let is_empty =
        opened.found.delta.is_empty() && superblock.roots().all(|(_, root)| root == Entry::ABSENT);
    let (top, frees) = match merge.state {
        MergeState::None if !always || is_empty => return Ok(None),
        MergeState::None => (superblock.active_layer, false),
        MergeState::Asked | MergeState::UnderWay => (merge.top, merge.frees),
    };
    Ok(Some(Due {
        top,
        frees,
        is_under_way: merge.state == MergeState::UnderWay,
        is_asked: merge.state == MergeState::Asked,
    }))
}

/// If this was asked for, it is done.
pub(super) fn ask_no_longer(opened: &mut Opened, top: u8) -> anyhow::Result<()> {
    let merge = opened.found.superblock.merge;
    if (merge.state, merge.top) != (MergeState::Asked, top) {
        return Ok(());
    }
    opened.settle()?;
    let description = opened.found.superblock.description.clone();
    let asked = merging::ask(&mut opened.files, &opened.found, None, description);
    asked.map(drop).map_err(|why| words::refused(opened, why))
}

/// Let the next boot merge, or no longer.
///
/// # Errors
/// Why the cowfile is as it was.
pub fn ask(cow: &Path, up_to: Option<&str>, frees: Option<bool>) -> anyhow::Result<Vec<String>> {
    let doing = || format!("asking for a merge of '{}' at the next boot", cow.display());
    let mut opened = cowfile::open(cow, Mode::Write, None).with_context(doing)?;
    opened.settle().with_context(doing)?;
    let superblock = &opened.found.superblock;
    if superblock.merge.state == MergeState::UnderWay {
        let why = match superblock.merge.is_logged {
            true => words::ONLY_WITH_ITS_LOG,
            false => "a merge is under way, and the next boot goes on with it whatever is asked",
        };
        bail!("{}: {why}", doing());
    }
    let top = super::top_of(&opened, up_to).with_context(doing)?;
    let merge = match frees {
        Some(frees) => Some(Merge {
            top,
            frees,
            id: u64::from_le_bytes(sys::random().context("asking the kernel for a random number")?),
            ..Merge::default()
        }),
        None => None,
    };
    let names = super::stack_names(&opened, top);
    let description = superblock.description.clone();
    let asked = merging::ask(&mut opened.files, &opened.found, merge, description);
    asked
        .map_err(|why| words::refused(&opened, why))
        .with_context(doing)?;
    Ok(names)
}

/// What asking for a merge at the next boot, or no longer, makes of a cowfile that is in use; and what is merged then.
///
/// # Errors
/// There is no such session.
pub fn ask_in_use(
    superblock: &Superblock,
    up_to: Option<&str>,
    frees: Option<bool>,
) -> Result<(Edit, Vec<u8>, Vec<String>), String> {
    let about = Description::decode(DESCRIPTION_VERSION, &superblock.description)
        .map_err(|fault| fault.to_string())?;
    let stack = merging::merged_with(superblock, superblock.active_layer);
    let name = |number: &u8| session::name_of(&about, *number);
    let top = match up_to {
        None => superblock.active_layer,
        Some(wanted) => {
            let is_named = |number: &&u8| name(number) == wanted || wanted.parse() == Ok(**number);
            let found = stack.iter().find(is_named);
            *found.ok_or_else(|| format!("no session '{wanted}' is in use"))?
        }
    };
    let id = || {
        sys::random()
            .map(u64::from_le_bytes)
            .map_err(|error| error.to_string())
    };
    let merge = match frees {
        Some(frees) => Some(Merge {
            top,
            frees,
            id: id()?,
            ..Merge::default()
        }),
        None => None,
    };
    let names = merging::merged_with(superblock, top)
        .iter()
        .map(name)
        .collect();
    Ok((Edit::AskMerge(merge), superblock.description.clone(), names))
}

pub(super) fn encoded(about: &Description) -> anyhow::Result<Vec<u8>> {
    let bytes = about.encode(room(Shape::PRODUCT));
    bytes.map_err(|fault| anyhow::anyhow!("{fault}"))
}

fn with_suffix(name: &str, suffix: &str) -> String {
    let name = name.trim_end_matches(suffix);
    shortened(name, LONGEST_NAME - suffix.len()) + suffix
}
