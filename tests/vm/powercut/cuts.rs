//! Where the power is cut, and what a cut leaves of the writes that no flush had made durable.

use std::ops::Range;

use anyhow::Result;
use fastrand::Rng;

use super::record::Recording;

/// What is lost of the writes since the last flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The cut is just behind a flush: nothing.
    Flushed,
    /// Nothing, for a cut anywhere.
    Prefix,
    /// Some writes, whole.
    Subset,
    /// Some sectors of some writes.
    Torn,
}

/// One cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) kind: Kind,
    /// Entries before this one were sent.
    pub(super) at: usize,
    /// What is lost is chosen by it.
    pub(super) seed: u64,
}

/// What was being written when the power was cut, as far as the pages tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct During {
    /// Zeros ahead of use.
    pub(super) growth: bool,
    /// Tree pages.
    pub(super) checkpoint: bool,
    pub(super) superblock: bool,
    /// Pages of the journal.
    pub(super) commit: bool,
}

/// What a medium writes whole.
const SECTOR: usize = 512;

/// Zeros shorter than this are somebody's data.
const LONG: usize = 64 << 10;

/// How often each kind is chosen.
const KINDS: [Kind; 6] = [
    Kind::Flushed,
    Kind::Prefix,
    Kind::Subset,
    Kind::Subset,
    Kind::Subset,
    Kind::Torn,
];

/// What was sent between two flushes.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    entries: Range<usize>,
    during: During,
}

/// The stretches behind the first marker.
pub(super) fn stretches(recording: &Recording) -> Result<Vec<Stretch>> {
    let mut stretches = Vec::new();
    let (mut begin, mut during) = (recording.from, During::default());
    let mut data = Vec::new();
    for (number, entry) in recording.entries.iter().enumerate().skip(recording.from) {
        if entry.is_flush {
            stretches.push(Stretch {
                entries: begin..number,
                during: std::mem::take(&mut during),
            });
            begin = number + 1;
        } else {
            recording.log.content(entry, &mut data)?;
            during.see(&data);
        }
    }
    Ok(stretches)
}

/// Chooses `count` cuts of these stretches, in ascending order. Every second one is chosen by the first seed
/// alone. What is rare gets its share: a quarter each for growth, checkpoints and superblocks, if there are any.
pub(super) fn choose(stretches: &[Stretch], count: usize, seeds: [u64; 2]) -> Vec<Cut> {
    let all: Vec<&Stretch> = stretches.iter().collect();
    let with = |what: fn(During) -> bool| -> Vec<&Stretch> {
        let some: Vec<_> = all.iter().copied().filter(|s| what(s.during)).collect();
        if some.is_empty() { all.clone() } else { some }
    };
    let classes = [
        with(|during| during.growth),
        with(|during| during.checkpoint),
        with(|during| during.superblock),
        all.clone(),
    ];
    let mut rngs = seeds.map(Rng::with_seed);
    let cuts = (0..count).filter_map(|number| {
        let [fixed, fresh] = &mut rngs;
        let rng = if number % 2 == 0 { fixed } else { fresh };
        let kind = rng.choice(KINDS)?;
        let among = classes.get(number / 2 % classes.len())?;
        let entries = rng.choice(among)?.entries.clone();
        let at = match kind {
            Kind::Flushed => entries.end + 1,
            // Late in the stretch there is most to lose.
            _ if rng.bool() => entries.end,
            _ => rng.usize(entries.start..=entries.end),
        };
        Some(Cut {
            kind,
            at,
            seed: rng.u64(..),
        })
    });
    let mut cuts: Vec<Cut> = cuts.collect();
    cuts.sort_by_key(|cut| cut.at);
    cuts
}

/// A disk as it is when all before the last flush is on it, moving on through the log.
#[derive(Debug)]
pub(super) struct Disk<'a> {
    recording: &'a Recording,
    durable: Vec<u8>,
    next: usize,
    /// What an entry writes.
    data: Vec<u8>,
}

impl<'a> Disk<'a> {
    /// The disk before the recording.
    pub(super) fn new(recording: &'a Recording) -> Self {
        Self {
            recording,
            durable: recording.before.clone(),
            next: 0,
            data: Vec::new(),
        }
    }

    /// What `cut` leaves, and what was being written. Cuts must come in ascending order.
    pub(super) fn image(&mut self, cut: Cut) -> Result<(Vec<u8>, During)> {
        let Recording { log, entries, .. } = self.recording;
        let sent = entries.get(..cut.at).unwrap_or(entries);
        let flushed = sent.iter().rposition(|entry| entry.is_flush);
        let flushed = flushed.map_or(0, |at| at + 1).max(self.next);
        let (durable, open) = sent.split_at(flushed);
        for entry in durable.get(self.next..).unwrap_or_default() {
            log.content(entry, &mut self.data)?;
            put(&mut self.durable, entry.at, &self.data);
        }
        self.next = flushed;
        let mut image = self.durable.clone();
        let mut during = During::default();
        let mut rng = Rng::with_seed(cut.seed);
        // How many are lost differs: nearly none, half, nearly all.
        let kept = rng.choice([1, 4, 7]).unwrap_or(4);
        for entry in open {
            log.content(entry, &mut self.data)?;
            during.see(&self.data);
            let keeps = rng.u8(..8) < kept;
            match cut.kind {
                Kind::Torn if rng.bool() => tear(&mut image, entry.at, &self.data, &mut rng),
                Kind::Subset | Kind::Torn if !keeps => {}
                _ => put(&mut image, entry.at, &self.data),
            }
        }
        Ok((image, during))
    }
}

fn put(disk: &mut [u8], at: u64, data: &[u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    if let Some(there) = at
        .checked_add(data.len())
        .and_then(|end| disk.get_mut(at..end))
    {
        there.copy_from_slice(data);
    }
}

/// Writes every other sector or so.
fn tear(disk: &mut [u8], at: u64, data: &[u8], rng: &mut Rng) {
    for (sector, at) in data.chunks(SECTOR).zip((at..).step_by(SECTOR)) {
        if rng.bool() {
            put(disk, at, sector);
        }
    }
}

impl During {
    /// Looks at what is written: docs/format.md, page header.
    fn see(&mut self, data: &[u8]) {
        self.growth |= data.len() >= LONG && data.iter().all(|&byte| byte == 0);
        for page in data.chunks_exact(4096) {
            let kind = page.get(4..8) == Some(b"COWR");
            let kind = page.get(8).copied().filter(|_| kind);
            match kind {
                Some(1) => self.superblock = true,
                Some(2) => self.commit = true,
                Some(3) => self.checkpoint = true,
                _ => {}
            }
        }
    }
}
