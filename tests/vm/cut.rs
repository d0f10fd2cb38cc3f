//! The power of a machine cut in the middle of a merge, at a moment of chance.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::case::Case;
use crate::qemu::Outcome;

/// A power cut: so long after the console said this.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) text: &'static str,
    pub(crate) after: Duration,
}

impl Cut {
    /// In the middle of a merge at boot. `COWROOT_CUT_MS` cuts at that moment again.
    pub(crate) fn of_a_merge(case: &Case) -> Self {
        /// A merge of these cases goes on for longer.
        const LATEST_MS: u64 = 1000;
        let asked = std::env::var("COWROOT_CUT_MS").ok();
        let asked = asked.and_then(|text| text.parse().ok());
        let after_ms = asked.unwrap_or_else(|| fastrand::u64(..LATEST_MS));
        println!("vm: {}: the power goes after {after_ms} ms", case.name);
        Self {
            text: " merging: ",
            after: Duration::from_millis(after_ms),
        }
    }

    /// Whether the power went before the merge was over, and no root had started.
    pub(crate) fn judge(self, outcome: &Outcome) -> Result<()> {
        let console = &outcome.console;
        ensure!(
            console.iter().any(|line| line.contains(self.text)),
            "the console does not say '{}'",
            self.text
        );
        let is_over = console.iter().any(|line| line.contains(": merged "));
        ensure!(
            outcome.is_cut && !is_over && outcome.report.is_empty(),
            "the merge was over before the power went, {:?} after it was seen",
            self.after
        );
        Ok(())
    }
}
