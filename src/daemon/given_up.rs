//! What is left of a device that nobody serves any more: somebody who says so, until it is detached.

use std::sync::atomic::Ordering;

use super::handover::StoreState;
use super::kept::Kept;
use super::protocol::{self, Answer, Question};
use super::report::{FAILED, Shared, report};
use crate::engine::units::CHUNK_BYTES;
use crate::media::text;

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
                    format!(
                        "nobody serves it: {reason:#}; {}; detach it",
                        safe(kept, shared)
                    ),
                );
                Answer::Status(Box::new(report))
            }
            Ok(Question::Detach) => {
                let _ = protocol::reply(&mut stream, &Answer::Done);
                return;
            }
            Ok(_) => Answer::Refused(format!(
                "asking '{}': nobody serves it any more; detach it",
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

/// Up to when what was written is kept.
pub(super) fn safe(kept: &Kept, shared: &Shared) -> String {
    if matches!(kept.handover.store, StoreState::Ram { .. }) {
        return "what was written is lost".into();
    }
    let counters = &shared.counters;
    let committed_s = counters.committed_s.load(Ordering::Relaxed);
    let since = match committed_s {
        0 => "what was written before it was attached".to_owned(),
        at_s => format!("what was written up to {}", text::time(at_s)),
    };
    let lost = match counters.staged_chunks.load(Ordering::Relaxed) {
        0 => String::new(),
        chunks => {
            let bytes = u64::from(chunks) * CHUNK_BYTES;
            format!(", {} that came later are lost", text::size(bytes))
        }
    };
    format!("{since} is in the cowfile{lost}")
}
