//! `make bench-open`: how long it takes until a device is there, over cowfiles with 16 GiB of changes, on a disk
//! that reads 30 MB/s and takes 1 ms for each read.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::initramfs::Initramfs;
use crate::media::{Bus, Content, Medium};
use crate::qemu::Machine;
use crate::run::Bed;

const READ_BYTES_PER_SECOND: u64 = 30_000_000;

/// Opens each image of the folder COWROOT_IMAGES, several times, and prints how long it took.
pub(crate) fn run() -> Result<bool> {
    let bed = Bed::open()?;
    let folder = std::env::var_os("COWROOT_IMAGES").map(PathBuf::from);
    let folder = folder.context("COWROOT_IMAGES names no folder; `make bench-open` does")?;
    let kernel = bed.kernel(crate::apt::SUITE)?;
    let dir = bed.runs.join("bench-open");
    fs::create_dir_all(&dir)?;
    let medium = |name: &str| {
        let medium = Medium {
            content: Content::Random(0),
            bus: Bus::Disk,
            throttle: Some(READ_BYTES_PER_SECOND),
        };
        (medium, folder.join(name))
    };
    let machine = Machine {
        accel: bed.accel.with_threads(),
        memory_mib: 1024,
        memory_at_once: false,
        cut: None,
        firmware: None,
        vmlinuz: kernel.vmlinuz.clone(),
        initramfs: Initramfs::Mini.get(&bed.cache, &kernel, &bed.binary)?,
        words: "console=ttyS0 panic=1 cowtest=bench-open".into(),
        media: NAMES.map(medium).into(),
        network: None,
    };
    let outcome = machine.run(&dir, Duration::from_mins(10))?;
    for line in &outcome.report {
        println!("{}", line.trim_start_matches("COWROOT-TEST "));
    }
    let is_fine = |line: &String| !line.contains("FAILED");
    Ok(outcome.stuck.is_none() && outcome.report.iter().all(is_fine))
}

/// In the order of the guest's disks.
const NAMES: [&str; 3] = ["clean", "unclean-full-epochs", "unclean-many-epochs"];
