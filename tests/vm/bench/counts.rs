//! What reached a stick's medium, counted from QEMU's log of it. No noise of the machine touches these figures,
//! but for what is batched while something else is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use crate::blklog::{self, Entry, Log};

/// How a page begins that the guest writes to the disk's beginning before and after a job.
const MARK: &str = "COWROOT-MARK|";

/// An erase zone, as sticks have them.
const ZONE_BYTES: u64 = 4 << 20;

/// Contender, round and job.
pub(super) type Of = (String, u64, String);

/// A job's traffic on the medium.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) writes: u64,
    pub(super) bytes: u64,
    /// Of these, what was written as zeros only: a cowfile growing, a list's end.
    pub(super) zero_bytes: u64,
    pub(super) flushes: u64,
    /// Distinct erase zones written to from one flush to the next, added up.
    pub(super) zones: u64,
    /// Distinct regions: stretches without a gap that were written to from one flush to the next, in whatever
    /// order, added up.
    pub(super) regions: u64,
    /// Since the last flush: where writes began and ended.
    written: Vec<(u64, u64)>,
}

impl Counts {
    fn add(&mut self, entry: &Entry, content: &[u8]) {
        if entry.bytes > 0 {
            self.writes += 1;
            self.bytes += entry.bytes;
            if content.iter().all(|byte| *byte == 0) {
                self.zero_bytes += entry.bytes;
            }
            self.written.push((entry.at, entry.at + entry.bytes));
        }
        if entry.is_flush {
            self.flushes += 1;
            self.close();
        }
    }

    fn close(&mut self) {
        self.written.sort_unstable();
        let (mut zones, mut end) = (BTreeSet::new(), None);
        for (from, to) in self.written.drain(..) {
            zones.extend(from / ZONE_BYTES..=(to - 1) / ZONE_BYTES);
            self.regions += u64::from(end.is_none_or(|end| from > end));
            end = end.max(Some(to));
        }
        self.zones += zones.len() as u64;
    }
}

/// The jobs of a log.
pub(super) fn count(path: &Path) -> Result<BTreeMap<Of, Counts>> {
    let mut log = blklog::read(path)?;
    let mut counts = BTreeMap::new();
    let mut open: Option<(Of, Counts)> = None;
    let mut content = Vec::new();
    while let Some(entry) = log.next().transpose()? {
        let is_mark = entry.at == 0 && entry.bytes == 4096;
        if let Some((begins, of)) = is_mark.then(|| mark(&log, &entry)).transpose()?.flatten() {
            if let Some((of, mut done)) = open.take() {
                done.close();
                counts.insert(of, done);
            }
            open = begins.then(|| (of, Counts::default()));
        } else if let Some((_, counts)) = &mut open {
            log.content(&entry, &mut content)?;
            counts.add(&entry, &content);
        }
    }
    Ok(counts)
}

/// What a mark says: whether a job begins, and which.
fn mark(log: &Log, entry: &Entry) -> Result<Option<(bool, Of)>> {
    let mut page = Vec::new();
    log.content(entry, &mut page)?;
    let text = String::from_utf8_lossy(&page);
    let Some(words) = text.strip_prefix(MARK) else {
        return Ok(None);
    };
    let mut words = words.split('|');
    let mut word = || words.next().context("a mark without its words");
    let (what, who, round, job) = (word()?, word()?, word()?, word()?);
    let of = (who.to_owned(), round.parse()?, job.to_owned());
    Ok(Some((what == "begin", of)))
}
