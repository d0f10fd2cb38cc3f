//! What a daemon says of its device when it is asked.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::protocol::{CowReport, Recovery, Report};
use crate::disk::base::Base;
use crate::disk::lost::{folder_of, is_gone, medium_version};
use crate::disk::watch::Change;
use crate::engine::units::CHUNK_BYTES;
use crate::sys;
use crate::ublk::counters::Counters;
use crate::ublk::{self, Device, Spec};

/// What a report says of a device's health.
const HEALTHY: &str = "ok";
const NEEDS_ATTENTION: &str = "attention";
pub(super) const FAILED: &str = "failed";
/// Two media that were swapped unseen lie further apart.
const SWAPPED_S: u64 = 10;
/// From here on a report warns, as the kernel's log does.
const NEARLY_FULL_PERCENT: u64 = 80;

/// What all processes of a device know, its supervisor among them. They come and go; it stays.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) counters: Counters,
    /// How often it was recovered.
    pub(super) recoveries: AtomicU32,
    /// When it was the last time, in seconds since 1970, and how many milliseconds nobody served it then.
    pub(super) recovered_s: AtomicU64,
    pub(super) pause_ms: AtomicU64,
    /// The supervisor's process; 0 when it is gone.
    pub(super) supervisor: AtomicU32,
    /// When a medium was last found to be another one, or the same again, without having been away.
    pub(super) swapped_s: AtomicU64,
    /// The versions of its media when what is on them was opened, in the order of their devices; 0 if none was noted.
    versions: [AtomicU64; 2],
    /// What has become of a base on a server: 0, or the number of a `Change`.
    pub(super) base_change: AtomicU32,
}

impl Shared {
    /// What is on `opened`, some of these devices, was opened just now.
    pub(super) fn note_media(&self, devices: &[u64], opened: &[u64]) {
        for (version, &device) in self.versions.iter().zip(devices) {
            if opened.contains(&device) {
                version.store(medium_version(&folder_of(device)), Ordering::Relaxed);
            }
        }
    }

    /// These devices, each with the version of its medium when what is on it was opened.
    pub(super) fn noted(&self, devices: Vec<u64>) -> Vec<(u64, u64)> {
        let noted = devices.into_iter().zip(&self.versions);
        noted
            .map(|(device, version)| {
                let now = medium_version(&folder_of(device));
                // Another binary, which has just taken over, has noted none.
                let noted = version.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
                (device, noted.map_or_else(|noted| noted, |_| now))
            })
            .collect()
    }

    /// These devices were found to be lost: note it if none of them is away.
    pub(super) fn note_swap(&self, lost: &[u64]) {
        if !lost.iter().any(|&device| is_gone(device)) {
            self.swapped_s.store(sys::now_s(), Ordering::Relaxed);
        }
    }

    /// The same, and from when on another medium is looked for.
    pub(super) fn minded(&self, devices: Vec<u64>) -> (Vec<(u64, u64)>, Instant) {
        (self.noted(devices), self.swapped_from())
    }

    /// From when on another medium in a drive is looked for. Not for a while after the last: where a drive says so each time
    /// that it cannot read, it would be so for ever, and nobody would hear of it.
    fn swapped_from(&self) -> Instant {
        let past_s = sys::now_s().saturating_sub(self.swapped_s.load(Ordering::Relaxed));
        Instant::now() + Duration::from_secs(SWAPPED_S.saturating_sub(past_s))
    }
}

/// What is known from the start; the rest is filled in when somebody asks.
pub(super) fn first_report(
    device: &Device,
    spec: &Spec,
    base: &Base,
    (cow, warnings): (CowReport, Vec<String>),
) -> Report {
    Report {
        id: device.id(),
        device: device.node().display().to_string(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
        base: base.path().display().to_string(),
        base_bytes: base.size_bytes(),
        size_bytes: spec.size_bytes,
        read_only: spec.read_only,
        cow,
        requests: 0,
        failed_requests: 0,
        in_flight: 0,
        depth: ublk::USED_DEPTH.into(),
        locked_bytes: 0,
        recovery: Recovery::default(),
        health: HEALTHY.into(),
        warnings,
    }
}

/// How the device is now, which was like `first` at the start.
pub(super) fn report(first: &Report, shared: &Shared) -> Report {
    let relaxed = Ordering::Relaxed;
    let counters = &shared.counters;
    let bytes = |slots: &AtomicU32| u64::from(slots.load(relaxed)) * CHUNK_BYTES;
    let committed_s = counters.committed_s.load(relaxed);
    let supervisor = shared.supervisor.load(relaxed);
    let mut report = first.clone();
    report.pid = std::process::id();
    // Who began may have been another binary.
    report.version = env!("CARGO_PKG_VERSION").into();
    report.cow = CowReport {
        capacity_bytes: bytes(&counters.capacity_slots),
        used_bytes: bytes(&counters.used_slots),
        map_bytes: counters.map_bytes.load(relaxed),
        uncommitted_bytes: bytes(&counters.staged_chunks),
        epoch: counters.epoch.load(relaxed),
        last_commit_s: Some(committed_s).filter(|&committed_s| committed_s > 0),
        broken: counters.broken.load(relaxed),
        ..report.cow
    };
    report.requests = counters.requests.load(relaxed);
    report.failed_requests = counters.failed.load(relaxed);
    report.in_flight = counters.in_flight.load(relaxed);
    let processes = [Some(report.pid), Some(supervisor).filter(|&pid| pid > 0)];
    report.locked_bytes = processes.into_iter().flatten().map(locked_bytes).sum();
    let recovered_s = shared.recovered_s.load(relaxed);
    let obstacle = obstacle(supervisor);
    report.recovery = Recovery {
        possible: obstacle.is_none(),
        supervisor: Some(supervisor).filter(|&pid| pid > 0),
        count: shared.recoveries.load(relaxed),
        last_s: Some(recovered_s).filter(|&recovered_s| recovered_s > 0),
        last_pause_ms: shared.pause_ms.load(relaxed),
    };
    let warnings = warnings(&report, counters);
    report.warnings.extend(obstacle);
    report.warnings.extend(warnings);
    if !report.warnings.is_empty() {
        report.health = NEEDS_ATTENTION.into();
    }
    if let Some(change) = Change::of(shared.base_change.load(relaxed)) {
        report.health = FAILED.into();
        let text = format!(
            "its base {}: reading it fails; restart what runs on it",
            change.text()
        );
        report.warnings.insert(0, text);
    }
    report
}

/// What is kept of a cowfile for a file system's own records, in its slots.
pub(super) fn reserve_slots(cow: &CowReport) -> u32 {
    u32::try_from(cow.reserve_bytes / CHUNK_BYTES).unwrap_or(u32::MAX)
}

/// What has come up since the start.
fn warnings(report: &Report, counters: &Counters) -> Vec<String> {
    let used_percent = counters.used_percent(reserve_slots(&report.cow));
    let swap = counters.swap_requests.load(Ordering::Relaxed) > 0;
    let swap = swap
        .then(|| "swap was used on this device: the machine can dead-lock; use swapoff".to_owned());
    let broken = report.cow.broken.then(|| {
        "the cowfile's medium fails: reads go on, writes do not; save what you need elsewhere"
            .to_owned()
    });
    let failed = (report.failed_requests > 0).then(|| {
        format!(
            "{} requests failed; the kernel's log says more",
            report.failed_requests
        )
    });
    let full = (used_percent >= NEARLY_FULL_PERCENT).then(|| {
        format!(
            "the cowfile is {used_percent} % full: delete files (and run fstrim where the file system does not discard)"
        )
    });
    [swap, broken, failed, full].into_iter().flatten().collect()
}

/// Why nobody could go on if the daemon died now.
fn obstacle(supervisor: u32) -> Option<String> {
    if supervisor == 0 {
        return Some(
            "its supervisor is gone: if the daemon dies too, the device hangs until it is detached"
                .into(),
        );
    }
    let disabled = ublk::is_io_uring_disabled();
    disabled.then(|| {
        "io_uring is switched off: if the daemon dies nobody can go on; set kernel.io_uring_disabled=0 with sysctl"
            .into()
    })
}

/// What a process keeps in RAM whatever happens: what is there of its memory, if all of that is locked (VmRSS and VmLck
/// of proc_pid_status(5); the latter counts what was never touched, too).
fn locked_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bytes = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        line.and_then(|kibibytes| kibibytes.parse().ok())
            .map_or(0, |kibibytes: u64| kibibytes * 1024)
    };
    bytes("VmRSS:").min(bytes("VmLck:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_are_known_by_what_they_were_when_they_were_opened() {
        let shared = Shared::default();
        // Of devices that are not there the kernel tells nothing: 0.
        let [one, other] = [7, 8].map(|minor| nix::sys::stat::makedev(4095, minor));
        shared.versions[0].store(7, Ordering::Relaxed);
        let noted = shared.noted(vec![one, other]);
        assert_eq!(noted, [(one, 7), (other, 0)], "not what they are now");
        shared.versions[1].store(8, Ordering::Relaxed);
        // One is back: of the other nothing was opened.
        shared.note_media(&[one, other], &[one]);
        assert_eq!(shared.noted(vec![one, other]), [(one, 0), (other, 8)]);
    }

    #[test]
    fn a_swap_is_looked_for_a_while_after_the_last() {
        let shared = Shared::default();
        assert!(shared.swapped_from() <= Instant::now());
        // Something that is away is no swap.
        shared.note_swap(&[nix::sys::stat::makedev(4095, 7)]);
        assert!(shared.swapped_from() <= Instant::now());
        shared.note_swap(&[]);
        let wait = shared.swapped_from() - Instant::now();
        assert!(wait > Duration::from_secs(SWAPPED_S - 2), "{wait:?}");
    }
}
