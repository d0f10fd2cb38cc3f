//! Whether to look for the next request for a moment before sleeping, and for how long.
//!
//! With one request at a time most of its way is two wake-ups: ours when it comes, and the customer's when
//! it is done. Who still looks when the next one comes saves the first. That costs a CPU that might do
//! something else, so it is done only where it has just paid:
//!
//! - the time from running out of work to the next request is measured, spinning or not; one is looked
//!   for about twice as long as was usual of late, and never longer than [`LONGEST`];
//! - after [`PATIENCE`] gaps in a row that were longer than that it stops, until a short one is seen;
//! - what is spent in vain stays below one part in [`SHARE`] of the time that passes;
//! - on one CPU it is never done: whom we wait for could not run.
//!
//! A device that nobody uses is asleep in the kernel and costs nothing.

use std::time::Duration;

/// What comes later than this is not worth waiting for. Hardware takes a tenth of it, an emulated
/// machine all.
const LONGEST: Duration = Duration::from_micros(200);
/// Long gaps in a row that end it.
const PATIENCE: u8 = 3;
/// At most one part in so many of the time passed may be spent in vain,
const SHARE: u32 = 10;
/// and not more than this at once, however long nothing was spent.
const MOST_CREDIT: Duration = Duration::from_millis(1);

/// What was learned of the gaps between requests.
#[derive(Debug)]
pub(super) struct Spin {
    /// There is a CPU for whoever sends the requests while we look for them.
    possible: bool,
    /// How long short gaps usually are; nothing if they are not expected.
    usual: Option<Duration>,
    long_gaps: u8,
    /// What may still be spent in vain.
    credit: Duration,
}

impl Spin {
    /// For a process that may run on so many CPUs.
    pub(super) fn on(cpus: usize) -> Self {
        Self {
            possible: cpus > 1,
            usual: None,
            long_gaps: 0,
            credit: MOST_CREDIT,
        }
    }

    /// How long to look for the next request, if at all.
    pub(super) fn width(&self) -> Option<Duration> {
        let width = self.usual?.saturating_mul(2).min(LONGEST);
        (self.possible && self.credit >= width).then_some(width)
    }

    /// Between having nothing to do and the next request were `gap`, of which `in_vain` was spent
    /// looking without finding it.
    pub(super) fn learn(&mut self, gap: Duration, in_vain: Duration) {
        self.credit = self
            .credit
            .saturating_add(gap / SHARE)
            .min(MOST_CREDIT)
            .saturating_sub(in_vain);
        if gap <= LONGEST {
            self.long_gaps = 0;
            self.usual = Some(self.usual.map_or(gap, |usual| (usual * 3 + gap) / 4));
            return;
        }
        self.long_gaps = self.long_gaps.saturating_add(1);
        if self.long_gaps >= PATIENCE {
            self.usual = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// Let gaps pass as a queue would: it looks as long as it may, then sleeps. The time spent looking,
    /// and how much of it in vain.
    fn pass(spin: &mut Spin, gaps: &[Duration]) -> (Duration, Duration) {
        let (mut looked, mut in_vain) = (Duration::ZERO, Duration::ZERO);
        for &gap in gaps {
            let width = spin.width().unwrap_or_default();
            let lost = if gap > width { width } else { us(0) };
            looked += gap.min(width);
            in_vain += lost;
            spin.learn(gap, lost);
        }
        (looked, in_vain)
    }

    #[test]
    fn requests_that_come_one_after_the_other_are_looked_for() {
        let mut spin = Spin::on(2);
        assert_eq!(spin.width(), None, "nothing is known yet");
        let (looked, in_vain) = pass(&mut spin, &[us(30); 1000]);
        assert_eq!((looked, in_vain), (us(30 * 999), us(0)));
        assert_eq!(spin.width(), Some(us(60)));
    }

    #[test]
    fn it_adapts_to_how_fast_they_come() {
        let mut spin = Spin::on(2);
        pass(&mut spin, &[us(5); 100]);
        assert_eq!(spin.width(), Some(us(10)));
        pass(&mut spin, &[us(90); 100]);
        assert!(spin.width() > Some(us(150)) && spin.width() <= Some(us(180)));
    }

    #[test]
    fn requests_now_and_then_are_not() {
        let mut spin = Spin::on(2);
        pass(&mut spin, &[us(30); 10]);
        let (_, in_vain) = pass(&mut spin, &[us(1000); 10_000]);
        assert!(in_vain <= us(60) * u32::from(PATIENCE), "{in_vain:?}");
        assert_eq!(spin.width(), None);
    }

    #[test]
    fn what_is_spent_in_vain_is_a_small_share() {
        // Every other gap is short, so short ones are always expected, and half of the looks are wrong.
        let mut spin = Spin::on(2);
        let gaps = [us(90), us(500)].repeat(10_000);
        let (looked, in_vain) = pass(&mut spin, &gaps);
        let passed: Duration = gaps.iter().sum();
        assert!(in_vain <= passed / SHARE + MOST_CREDIT, "{in_vain:?}");
        assert!(looked > in_vain, "short ones are found all the same");
    }

    #[test]
    fn on_one_cpu_it_never_looks() {
        let mut spin = Spin::on(1);
        assert_eq!(pass(&mut spin, &[us(10); 100]).0, us(0));
    }
}
