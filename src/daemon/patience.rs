//! How often a worker that dies is replaced: for ever where somebody kills it, not where it dies of itself.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

/// Faults one after the other that are borne.
const MOST_FAULTS: u32 = 5;
/// For how long workers may fail to take over: something may have to change outside.
const MOST_TIME: Duration = Duration::from_secs(60);
/// Who serves for so long has no part in what was before.
const GOOD: Duration = Duration::from_secs(30);
/// Between two failures. The first come soon one after the other, for everybody waits.
const SOON: Duration = Duration::from_millis(20);
const FIRST: u32 = 50;
const PAUSE: Duration = Duration::from_secs(1);

/// What to do about a worker that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Now,
    After(Duration),
    /// And why.
    Never(String),
}

/// What has happened since it last went well for a while.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Deaths of its own doing.
    faults: u32,
    /// Workers that could not take over, and since when.
    failures: u32,
    failing_since: Option<Instant>,
    /// Since when the last one serves.
    since: Option<Instant>,
    /// Why the last one could not.
    reason: Option<String>,
}

impl Patience {
    /// A worker says why it cannot take over.
    pub(super) fn note(&mut self, reason: String) {
        if self.reason.as_ref() != Some(&reason) {
            log::error!("{reason}");
        }
        self.reason = Some(reason);
    }

    /// A worker has taken over.
    pub(super) fn recovered(&mut self, now: Instant) {
        self.failures = 0;
        self.failing_since = None;
        self.reason = None;
        self.since = Some(now);
    }

    /// A worker has ended like this, unasked.
    pub(super) fn another(&mut self, status: WaitStatus, now: Instant) -> Next {
        let since = self.since.take();
        if since.is_some_and(|since| now.duration_since(since) >= GOOD) {
            *self = Self::default();
        }
        if let Some(reason) = &self.reason {
            self.failures += 1;
            let since = *self.failing_since.get_or_insert(now);
            return match now.duration_since(since) > MOST_TIME {
                true => Next::Never(format!(
                    "nobody could take over within {} s: {reason}",
                    MOST_TIME.as_secs()
                )),
                false if self.failures <= FIRST => Next::After(SOON),
                false => Next::After(PAUSE),
            };
        }
        // Whoever kills it again and again has a reason, and is not this program.
        if matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)) {
            return Next::Now;
        }
        self.faults += 1;
        match self.faults {
            1 => Next::Now,
            2..=MOST_FAULTS => Next::After(PAUSE / 4),
            _ => Next::Never(format!(
                "that was the {}th time in a row, so it would go on for ever; please report this bug",
                self.faults
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::Pid;

    const PID: Pid = Pid::from_raw(7);
    const KILLED: WaitStatus = WaitStatus::Signaled(PID, Signal::SIGKILL, false);
    const CRASHED: WaitStatus = WaitStatus::Signaled(PID, Signal::SIGABRT, true);
    const FAILED: WaitStatus = WaitStatus::Exited(PID, 1);

    #[test]
    fn who_is_killed_is_replaced_at_once_however_often() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        for _ in 0..10_000 {
            patience.recovered(now);
            assert_eq!(patience.another(KILLED, now), Next::Now);
        }
    }

    #[test]
    fn who_crashes_in_a_row_is_given_up_and_who_has_served_for_long_is_not() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let mut deaths = 0;
        while !matches!(patience.another(CRASHED, now), Next::Never(_)) {
            patience.recovered(now);
            deaths += 1;
        }
        assert_eq!(deaths, MOST_FAULTS);
        let mut patience = Patience::default();
        for _ in 0..100 {
            patience.recovered(now);
            now += GOOD;
            assert_eq!(patience.another(CRASHED, now), Next::Now);
        }
    }

    #[test]
    fn who_cannot_take_over_is_tried_for_a_minute() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let (mut tries, began) = (0, now);
        let why = loop {
            patience.note("io_uring is switched off".into());
            match patience.another(FAILED, now) {
                Next::After(pause) => now += pause,
                Next::Never(why) => break why,
                other => panic!("{other:?}"),
            }
            tries += 1;
        };
        assert!(now - began > MOST_TIME && now - began < MOST_TIME * 2);
        assert!((100..120).contains(&tries), "{tries}");
        assert!(why.contains("io_uring is switched off"), "{why}");
        patience.recovered(now);
        assert_eq!(patience.another(KILLED, now), Next::Now);
    }
}
