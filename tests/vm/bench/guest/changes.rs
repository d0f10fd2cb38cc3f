//! The changes that are merged: where they are, what is written, and whether it is there.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::thread::scope;

use anyhow::{Context, Result, bail};

const CHUNK: usize = 4096;
/// Writes at a time when scattered changes are made; those in a row come one after the other.
const WRITERS: usize = 4;

/// What is changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) mib: u64,
    scattered: bool,
}

pub(crate) const JOBS: [Job; 2] = [
    Job {
        name: "512 MiB sequential",
        mib: 512,
        scattered: false,
    },
    Job {
        name: "64 MiB scattered",
        mib: 64,
        scattered: true,
    },
];

/// Where a sequential change begins.
const SEQUENTIAL_AT: u64 = 256 << 20;
const SEQUENTIAL_LEN: usize = 1 << 20;

impl Job {
    /// Offsets of what is written, in the order in which it is, and how long each is.
    pub(crate) fn writes(self, base_bytes: u64) -> (Vec<u64>, usize) {
        let bytes = self.mib << 20;
        if !self.scattered {
            let all = (0..bytes).step_by(SEQUENTIAL_LEN);
            return (all.map(|at| SEQUENTIAL_AT + at).collect(), SEQUENTIAL_LEN);
        }
        let mut chunks: Vec<u64> = (0..base_bytes / CHUNK as u64).collect();
        fastrand::Rng::with_seed(4).shuffle(&mut chunks);
        chunks.truncate(usize::try_from(bytes).unwrap_or(0) / CHUNK);
        let offsets = chunks.into_iter().map(|chunk| chunk * CHUNK as u64);
        (offsets.collect(), CHUNK)
    }
}

/// What is written at an offset: its own bytes in each round.
pub(crate) fn fill(seed: u64, at: u64, page: &mut [u8]) {
    fastrand::Rng::with_seed(seed << 48 ^ at).fill(page);
}

/// Write all stretches with what `content` says, past the page cache, some at a time; and sync.
pub(crate) fn write_all(
    device: &str,
    (offsets, len): &(Vec<u64>, usize),
    content: impl Fn(u64, &mut [u8]) -> Result<()> + Sync,
) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(device)
        .with_context(|| format!("opening '{device}'"))?;
    let writers = if *len == CHUNK { WRITERS } else { 1 };
    let writer = |number: usize| -> Result<()> {
        let mut buffer = vec![0; len + CHUNK];
        let start = buffer.as_ptr().align_offset(CHUNK);
        let page = buffer.get_mut(start..start + len).context("a page")?;
        for at in offsets.iter().skip(number).step_by(writers) {
            content(*at, page)?;
            file.write_all_at(page, *at)
                .with_context(|| format!("writing '{device}'"))?;
        }
        Ok(())
    };
    scope(|scope| {
        let writer = &writer;
        let writers: Vec<_> = (0..writers)
            .map(|number| scope.spawn(move || writer(number)))
            .collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().unwrap_or_else(|_| bail!("a writer panicked")))
    })?;
    Ok(file.sync_all()?)
}

/// Where a device is not what was written.
pub(crate) fn first_difference(
    device: &str,
    (offsets, len): &(Vec<u64>, usize),
    seed: u64,
) -> Result<Option<u64>> {
    let file = File::open(device)?;
    let (mut there, mut wanted) = (vec![0; *len], vec![0; *len]);
    for at in offsets {
        file.read_exact_at(&mut there, *at)?;
        fill(seed, *at, &mut wanted);
        if there != wanted {
            return Ok(Some(*at));
        }
    }
    Ok(None)
}
