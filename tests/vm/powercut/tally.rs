//! What a run tells at its end: how many images of which kind, and what became of them.

use std::collections::BTreeMap;
use std::fmt;

use super::cuts::{During, Kind};

/// Counts of one medium's images.
#[derive(Debug, Default)]
pub(super) struct Tally {
    kinds: BTreeMap<Kind, usize>,
    growth: usize,
    checkpoint: usize,
    superblock: usize,
    commit: usize,
    /// Their file system was repaired before anything else.
    repaired: usize,
    /// Why they failed as they were, of those that were not.
    needed: Vec<String>,
    failures: Vec<String>,
}

impl Tally {
    pub(super) fn count(&mut self, kind: Kind, during: During, repaired: bool) {
        *self.kinds.entry(kind).or_default() += 1;
        self.growth += usize::from(during.growth);
        self.checkpoint += usize::from(during.checkpoint);
        self.superblock += usize::from(during.superblock);
        self.commit += usize::from(during.commit);
        self.repaired += usize::from(repaired);
    }

    /// An image failed that nobody had repaired, for this reason.
    pub(super) fn need(&mut self, why: &str) {
        self.needed.push(why.to_owned());
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failures.push(why);
    }

    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images: usize = self.kinds.values().sum();
        write!(f, "{images} images (")?;
        for (number, (kind, count)) in self.kinds.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {}", format!("{kind:?}").to_lowercase())?;
        }
        write!(
            f,
            "); cut in a commit {}, a checkpoint {}, a superblock {}, growth {}; fsck first {}, needed {}",
            self.commit,
            self.checkpoint,
            self.superblock,
            self.growth,
            self.repaired,
            self.needed.len()
        )?;
        if let Some(why) = self.needed.first() {
            write!(f, " (first: {why})")?;
        }
        write!(f, "; {} failed", self.failures.len())
    }
}
