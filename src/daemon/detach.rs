//! Having devices taken away: by their daemons, or by hand where nobody serves them any more.

use anyhow::bail;

use super::protocol::{Answer, Question, ask};
use crate::ublk::devices::{delete_dead, device_ids, give_up};

/// Detach device `id`: its cowfile is closed, and its daemon has ended. Whether there was such a device.
///
/// # Errors
/// It is in use, or its last commit failed.
pub fn one(id: u32) -> anyhow::Result<bool> {
    match ask(id, &Question::Detach)? {
        None => Ok(give_up_left(id)),
        Some(Answer::Done) => Ok(true),
        Some(Answer::Refused(reason) | Answer::Failed(reason)) => bail!("{reason}"),
        Some(Answer::Status(_) | Answer::Said(_) | Answer::Superblock(..)) => {
            bail!("detaching /dev/ublkb{id}: its daemon answered something else")
        }
    }
}

/// Detach all devices, also those that wait for a daemon that will not come. How many there were.
///
/// # Errors
/// What `one` says of each that stays; the others are detached all the same.
pub fn all() -> anyhow::Result<u32> {
    let mut refused = Vec::new();
    let mut detached = 0;
    for id in device_ids() {
        match one(id) {
            Ok(was_there) => detached += u32::from(was_there),
            Err(error) => refused.push(format!("{error:#}")),
        }
    }
    if refused.is_empty() {
        Ok(detached)
    } else {
        bail!("{}", refused.join("\n"))
    }
}

/// Whether the device waited for somebody to serve it, who will not come. Whoever uses it gets errors now, and can end.
fn give_up_left(id: u32) -> bool {
    let is_given_up = give_up(id);
    if is_given_up {
        log::warn!(
            "nobody served /dev/ublkb{id} any more, for its daemon and its supervisor were killed: what was not committed \
             is lost"
        );
        delete_dead(id);
    }
    is_given_up
}
