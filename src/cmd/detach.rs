//! `cowroot detach`: have a device's daemon take it away and end.

use anyhow::{Context, bail};

use crate::cli::Detach;
use crate::daemon::protocol::{Answer, Question, ask};
use crate::ublk::devices::{delete_dead, device_ids, give_up};

/// Detach one device, or all of cowroot's.
///
/// # Errors
/// A device that is no cowroot device, or is in use. With `--all` the others are detached all the same.
pub fn run(detach: &Detach) -> anyhow::Result<()> {
    super::require_root("detaching a device")?;
    let Some(name) = &detach.device else {
        return detach_all();
    };
    let id = device_id(name)?;
    // Of a device whose start was cut off its number is what is left to free.
    if !detach_one(id)? && !give_up_left(id) && !delete_dead(id) {
        bail!(
            "detaching '{name}': cowroot serves no such device; `cowroot status` lists those it does"
        );
    }
    Ok(())
}

/// Also what waits for a daemon that will not come.
fn detach_all() -> anyhow::Result<()> {
    let mut refused = Vec::new();
    for id in device_ids() {
        match detach_one(id) {
            Ok(true) => {}
            Ok(false) => _ = give_up_left(id),
            Err(error) => refused.push(format!("{error:#}")),
        }
    }
    if refused.is_empty() {
        Ok(())
    } else {
        bail!("{}", refused.join("\n"))
    }
}

/// Whether there was such a device.
fn detach_one(id: u32) -> anyhow::Result<bool> {
    match ask(id, &Question::Detach)? {
        None => Ok(false),
        Some(Answer::Done) => Ok(true),
        Some(Answer::Refused(reason) | Answer::Failed(reason)) => bail!("{reason}"),
        Some(Answer::Status(_)) => {
            bail!("detaching /dev/ublkb{id}: its daemon answered something else")
        }
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

/// The number of a device, from its node, name or number.
pub(super) fn device_id(name: &str) -> anyhow::Result<u32> {
    let number = name.strip_prefix("/dev/").unwrap_or(name);
    let number = number.strip_prefix("ublkb").unwrap_or(number);
    number
        .parse()
        .with_context(|| format!("'{name}' is no ublk device; name it like /dev/ublkb0"))
}

#[cfg(test)]
mod tests {
    use super::device_id;

    #[test]
    fn a_device_may_be_named_in_three_ways() {
        for name in ["/dev/ublkb12", "ublkb12", "12"] {
            assert_eq!(device_id(name).unwrap(), 12, "{name}");
        }
        for name in ["", "/dev/sda", "ublkb", "ublkb-1", "/dev/ublkc1"] {
            assert!(device_id(name).is_err(), "{name}");
        }
    }
}
