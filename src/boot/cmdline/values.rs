//! What the words of the command line say, each by itself.

use std::time::Duration;

use super::Cow;
use crate::media::open::CowStore;

const LONGEST_WAIT_S: u64 = 24 * 60 * 60;

pub(super) fn wait(value: &str) -> Result<Duration, String> {
    match value.parse() {
        Ok(seconds @ 1..=LONGEST_WAIT_S) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!(
            "'{value}' is not a time to wait; use whole seconds, 1 to {LONGEST_WAIT_S}"
        )),
    }
}

/// Seconds; 0 is not at all.
pub(super) fn lost(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(seconds) if u64::from(seconds) <= LONGEST_WAIT_S => Ok(seconds),
        _ => Err(format!(
            "'{value}' is not a time to wait; use whole seconds, 0 (errors at once) to {LONGEST_WAIT_S}"
        )),
    }
}

/// A word without a value arrives as an empty one.
pub(super) fn flag(value: &str) -> Result<bool, String> {
    match value {
        "" | "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(format!("'{value}' is neither 1 nor 0")),
    }
}

pub(super) fn cow(text: &str) -> Result<Cow, String> {
    match text.parse()? {
        CowStore::Tmpfs(size) => Ok(Cow::Tmpfs(size)),
        CowStore::File(_) => text.parse().map(Cow::Medium),
    }
}
