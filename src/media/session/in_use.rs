//! What can be done with sessions while their device is in use: the engine writes it, as it is planned here.

use super::{begun, name_of, renamed, valid, words};
use crate::engine::cowfile::layers::{Edit, NotDone};
use crate::engine::format::Shape;
use crate::engine::format::description::{Description, room};
use crate::engine::format::superblock::{DESCRIPTION_VERSION, Superblock};

/// The edit, what is known of the sessions then, and what the plan tells besides.
pub type Planned<T> = (Edit, Vec<u8>, T);

/// What beginning a session on the one that takes the writes makes of a cowfile that is in use; and that session's name.
///
/// # Errors
/// The name cannot be one's, or there are too many sessions.
pub fn begin_in_use(
    superblock: &Superblock,
    name: Option<&str>,
) -> Result<Planned<String>, String> {
    let mut about = known(superblock)?;
    if let Some(name) = name {
        require_unused(&about, name)?;
    }
    let free = (0..)
        .zip(&superblock.layers)
        .find(|(_, layer)| layer.is_none());
    let (number, _) = free.ok_or_else(|| words(&about, NotDone::TooMany))?;
    let below = superblock.active_layer;
    begun(&mut about, (number, Some(below)), name).map_err(|error| format!("{error:#}"))?;
    let name = name_of(&about, number);
    Ok((Edit::Begin(Some(below)), encoded(&about)?, name))
}

/// What another name for a session makes of a cowfile that is in use; what that is in words, and the name of the
/// session that takes the writes then.
///
/// # Errors
/// There is no such session, or there is one of the new name, which cannot be one's.
pub fn rename_in_use(
    superblock: &Superblock,
    (from, to): (&str, &str),
) -> Result<Planned<(String, String)>, String> {
    let mut about = known(superblock)?;
    require_unused(&about, to)?;
    if about.layers.iter().all(|layer| layer.name != from) {
        return Err(format!("there is no session '{from}'"));
    }
    let said = renamed(&mut about, from, to);
    let active = name_of(&about, superblock.active_layer);
    Ok((Edit::Describe, encoded(&about)?, (said, active)))
}

fn known(superblock: &Superblock) -> Result<Description, String> {
    Description::decode(DESCRIPTION_VERSION, &superblock.description)
        .map_err(|fault| fault.to_string())
}

fn encoded(about: &Description) -> Result<Vec<u8>, String> {
    let bytes = about.encode(room(Shape::PRODUCT));
    bytes.map_err(|fault| fault.to_string())
}

fn require_unused(about: &Description, name: &str) -> Result<(), String> {
    valid(name)?;
    match about.layers.iter().any(|layer| layer.name == name) {
        true => Err(format!("there is a session '{name}' already")),
        false => Ok(()),
    }
}
