//! What is left of a device that nobody serves any more: somebody who says so, until it is detached.

use super::handover::Kept;
use super::protocol::{self, Answer, Question};
use super::report::{FAILED, Shared, report};

/// Answer questions until the device is to be detached.
pub(super) fn answer(kept: &Kept, shared: &Shared, reason: &anyhow::Error) {
    for stream in kept.listener.incoming() {
        let Ok(mut stream) = stream else {
            continue;
        };
        let answer = match protocol::hear(&mut stream) {
            Ok(Question::Status) => {
                let mut report = report(&kept.handover.report, shared);
                report.health = FAILED.into();
                report.recovery.possible = false;
                report.warnings.insert(
                    0,
                    format!("nobody serves it: its daemon {reason:#}; detach it"),
                );
                Answer::Status(Box::new(report))
            }
            Ok(Question::Detach) => {
                let _ = protocol::reply(&mut stream, &Answer::Done);
                return;
            }
            Ok(Question::Upgrade) => Answer::Refused(format!(
                "upgrading '{}': nobody serves it any more; detach it",
                kept.handover.report.device
            )),
            Err(error) => {
                log::debug!("{error:#}");
                continue;
            }
        };
        let _ = protocol::reply(&mut stream, &answer);
    }
}
