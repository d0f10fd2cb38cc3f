//! The recording: a VM works on a stick, and every write and flush of the stick is logged.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::stick::{self, MARKER, On};
use crate::blklog::{self, Entry, Log};
use crate::initramfs::Initramfs;
use crate::media::{Bus, Content, Medium};
use crate::qemu::Machine;
use crate::run::Bed;

/// A stick as it was before, and what was done to it.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) before: Vec<u8>,
    pub(super) log: Log,
    pub(super) entries: Vec<Entry>,
    /// The first entry behind which the cowfile must be there: the marker is durable.
    pub(super) from: usize,
    pub(super) base: PathBuf,
}

/// A machine for the guest script `script`, which finds `words` on its command line.
pub(super) fn machine(
    bed: &Bed,
    (script, words): (&str, &str),
    media: &[(Bus, &Path)],
) -> Result<Machine> {
    let kernel = bed.kernel(crate::apt::SUITE)?;
    let medium = |bus| Medium {
        content: Content::Random(0),
        bus,
        throttle: None,
    };
    Ok(Machine {
        accel: bed.accel,
        memory_mib: 768,
        memory_at_once: false,
        cut: None,
        firmware: None,
        vmlinuz: kernel.vmlinuz.clone(),
        initramfs: Initramfs::Checkers.get(&bed.cache, &kernel, &bed.binary)?,
        words: format!("console=ttyS0 panic=1 cowtest={script} {words}"),
        network: None,
        media: media
            .iter()
            .map(|&(bus, file)| (medium(bus), file.to_owned()))
            .collect(),
    })
}

/// Runs `rounds` of the load on a new stick, in `dir`.
pub(super) fn record(bed: &Bed, on: On, rounds: usize, dir: &Path) -> Result<Recording> {
    let (stick, base) = (dir.join("stick"), dir.join("base"));
    stick::make(on, &stick)?;
    stick::make_base(&base)?;
    let before = fs::read(&stick)?;
    let log = dir.join("stick.log");
    fs::File::create(&log)?;
    let words = format!("powercut={} rounds={rounds}", on.name());
    let media = [(Bus::Logged, &*stick), (Bus::Disk, &*base)];
    let machine = machine(bed, ("powercut-record", &words), &media)?;
    // A round takes a quarter of a second on two cores without KVM.
    let deadline = Duration::from_secs(60 + 2 * rounds as u64);
    let outcome = machine.run(dir, deadline)?;
    let serial = dir.join("serial.log");
    let failed = outcome.report.iter().find(|line| line.contains(" FAILED"));
    let is_whole = outcome.report.iter().any(|line| line.contains("finished"));
    ensure!(
        is_whole && failed.is_none(),
        "the recording failed: {}\nserial log: {}",
        failed.map_or("it did not reach its end", |line| line),
        serial.display()
    );
    fs::rename(&serial, dir.join("record.log"))?;
    let mut log = blklog::read(&log)?;
    let entries: Vec<Entry> = log.by_ref().collect::<Result<_>>()?;
    let from = marked(&entries).context("finding the marker's first write in the log")?;
    Ok(Recording {
        before,
        log,
        entries,
        from,
        base,
    })
}

/// The entry behind the flush that made the first marker durable.
fn marked(entries: &[Entry]) -> Option<usize> {
    let is_marker = |entry: &Entry| entry.at == MARKER && entry.bytes > 0;
    let written = entries.iter().position(is_marker)?;
    let rest = entries.get(written..)?;
    Some(written + rest.iter().position(|entry| entry.is_flush)? + 1)
}
