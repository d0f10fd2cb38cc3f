//! What a worker does when somebody asks it to end.

use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::protocol::{self, Answer, Question};

/// How often a daemon that is asked to end looks whether its device is free, once a second.
const WAITS_FOR_USERS: u32 = 60;

/// When somebody asks this process to end: detach if nobody uses the device.
///
/// In the foreground that is a person at a terminal, who is told if it is in use. Elsewhere it is
/// systemd that stops a session or service: it waits, and so the device may become free meanwhile. A
/// root disk never does, and stays.
pub(super) fn mind(id: u32, in_foreground: bool) {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
        .into_iter()
        .collect();
    while signals.wait().is_ok() {
        let tries = if in_foreground { 1 } else { WAITS_FOR_USERS };
        for attempt in 1..=tries {
            match protocol::ask(id, &Question::Detach) {
                Ok(Some(Answer::Refused(reason))) if attempt == tries => log::warn!("{reason}"),
                Ok(Some(Answer::Refused(_))) => std::thread::sleep(Duration::from_secs(1)),
                Ok(_) => return,
                Err(error) => {
                    log::warn!("{error:#}");
                    break;
                }
            }
        }
    }
}
