//! `make bench-stick`: cowfiles that stay, on a slow stick and on one without delay. The VM has both as disks whose
//! writes and flushes QEMU logs; tests/vm/bench/guest/stick.rs works on them.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::{Boot, counts, host, print, sticktable::Table};
use crate::media::{Bus, Content, Medium};
use crate::run::Bed;

/// Bytes per second of the slow stick, read and written.
pub(super) const SLOW_BPS: u64 = 10_000_000;

/// The bare stretch, the vfat, and the marks before them; sparse.
const STICK_MIB: u64 = 4 + 2 * 2048;

/// The sticks by the names the guest gives them, and what slows them.
const STICKS: [(&str, Option<u64>); 2] = [("slow", Some(SLOW_BPS)), ("none", None)];

/// A round takes five minutes on two cores without KVM, and up to three times that on a busy machine.
const MOST_PER_ROUND: Duration = Duration::from_mins(15);

/// Measures everything `rounds` times and prints the tables; false if something could not be measured.
pub(crate) fn run(rounds: usize) -> Result<bool> {
    let bed = Bed::open()?;
    let dir = bed.runs.join("bench-stick");
    fs::create_dir_all(&dir)?;
    let mut media = Vec::new();
    for (name, throttle) in STICKS {
        let file = dir.join(name);
        fs::File::create(&file)?.set_len(STICK_MIB << 20)?;
        fs::File::create(dir.join(format!("{name}.log")))?;
        let medium = Medium {
            content: Content::Random(0),
            bus: Bus::Logged,
            throttle,
        };
        media.push((medium, file));
    }
    let booted = Boot {
        part: "stick",
        rounds,
        accel: bed.accel.with_threads(),
        media,
        deadline: MOST_PER_ROUND * u32::try_from(rounds + 1)?,
    }
    .run(&bed, &dir)?;
    let mut table = Table::read(&booted.outcome.report)?;
    for note in booted.notes {
        table.told.note(note);
    }
    table.told.note(host());
    for (name, _) in STICKS {
        let log = dir.join(format!("{name}.log"));
        for (of, counted) in counts::count(&log)? {
            table.count(name, of, counted);
        }
        // What was measured is in the tables; the logs are gigabytes.
        fs::remove_file(log)?;
        fs::remove_file(dir.join(name))?;
    }
    print(&table.markdown(), &dir, booted.outcome.stuck)?;
    Ok(table.told.whole())
}
