//! Tells when a cowfile runs full, once for each step, so that somebody can act before writes fail.

use std::sync::mpsc::Sender;

use crate::engine::driven::Gauges;
use crate::engine::units::CHUNK_BYTES;

/// Shares of the cowfile, in percent, that are worth a word.
const STEPS: [u64; 3] = [80, 90, 95];
/// A step is told again only after the cowfile was emptier by this much, or it would chatter.
const SLACK: u64 = 5;

/// How far the telling has got.
#[derive(Debug, Default)]
pub(super) struct Fullness {
    told: u64,
    /// Who else wants to know, of each step up and down.
    listener: Option<Sender<u64>>,
}

impl Fullness {
    /// Steps go to the kernel's log, and to `listener`; 0 is none.
    pub(super) fn told_to(listener: Sender<u64>) -> Self {
        Self {
            told: 0,
            listener: Some(listener),
        }
    }

    /// The step to tell now, if there is one.
    fn step(&mut self, used_percent: u64) -> Option<u64> {
        let reached = STEPS
            .into_iter()
            .rev()
            .find(|&step| used_percent >= step)
            .unwrap_or_default();
        if reached > self.told {
            self.told = reached;
            return Some(reached);
        }
        if used_percent + SLACK < self.told {
            self.told = reached;
        }
        None
    }

    /// Look at a store, and log what somebody should know.
    pub(super) fn watch(&mut self, gauges: &Gauges) {
        let limits = gauges.limits;
        if !gauges.used_is_known {
            return;
        }
        let before = self.told;
        let step = self.step(limits.percent_for_data(gauges.used_slots));
        if self.told != before {
            // One that has ended wants to know no more.
            _ = self
                .listener
                .as_ref()
                .map(|listener| listener.send(self.told));
        }
        if let Some(step) = step {
            let mebibytes = |slots: u32| (u64::from(slots) * CHUNK_BYTES) >> 20;
            log::warn!(
                "the cowfile is {step} % full: {} of {} MiB; delete files (and run fstrim where \
                 the file system does not discard), or use a larger one the next time",
                mebibytes(gauges.used_slots),
                mebibytes(limits.for_data())
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::units::Limits;

    #[test]
    fn each_step_is_told_once_and_again_only_after_it_got_better() {
        let mut fullness = Fullness::default();
        let told: Vec<Option<u64>> = [
            50, 79, 80, 81, 80, 79, 80, 91, 96, 100, 92, 96, 88, 90, 96, 10, 95,
        ]
        .map(|used| fullness.step(used))
        .into();
        let some = |step| Some(step);
        assert_eq!(
            told,
            [
                None,
                None,
                some(80),
                None,
                None,
                None,
                None,
                some(90),
                some(95),
                None,
                None,
                None,
                None,
                some(90),
                some(95),
                None,
                some(95)
            ]
        );
    }

    #[test]
    fn a_listener_hears_of_each_step_in_both_directions() {
        let (listener, steps) = std::sync::mpsc::channel();
        let mut fullness = Fullness::told_to(listener);
        for used_slots in [10, 85, 86, 96, 92, 88, 70, 71] {
            fullness.watch(&Gauges {
                limits: Limits {
                    capacity: 100,
                    reserve: 0,
                },
                used_slots,
                used_is_known: true,
                map_bytes: 0,
                staged_chunks: 0,
                is_dirty: false,
                epoch: 0,
                broken: None,
            });
        }
        drop(fullness);
        let steps: Vec<u64> = steps.iter().collect();
        assert_eq!(steps, [80, 95, 80, 0]);
    }
}
