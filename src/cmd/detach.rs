//! `cowroot detach`: have a device's daemon take it away and end.

use anyhow::{Context, bail};

use crate::cli::Detach;
use crate::daemon::detach;
use crate::ublk::devices::delete_dead;

/// Detach one device, or all of cowroot's.
///
/// # Errors
/// A device that is no cowroot device, or is in use. With `--all` the others are detached all the same.
pub fn run(options: &Detach) -> anyhow::Result<()> {
    super::require_root("detaching a device")?;
    let Some(name) = &options.device else {
        return detach::all().map(drop);
    };
    let id = device_id(name)?;
    // Of a device whose start was cut off its number is what is left to free.
    if !detach::one(id)? && !delete_dead(id) {
        bail!(
            "detaching '{name}': cowroot serves no such device; `cowroot status` lists those it does"
        );
    }
    Ok(())
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
