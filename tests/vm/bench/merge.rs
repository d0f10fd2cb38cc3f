//! `make bench-merge`: what a session changed, merged into its base, on a slow stick and on one without delay. The
//! VM has one stick as two disks, a slow one and one to make everything ready by; tests/vm/bench/guest/merge.rs
//! works on them.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::stick::SLOW_BPS;
use super::{Boot, host, mergetable::Table, print};
use crate::media::{Bus, Content, Medium};
use crate::run::Bed;

/// Base, and what keeps the changes; sparse.
const STICK_MIB: u64 = 4096;

/// A round takes half an hour on two cores without KVM, most of it dm's on the slow stick.
const MOST_PER_ROUND: Duration = Duration::from_mins(60);

/// Measures everything `rounds` times and prints the tables; false if something could not be measured.
pub(crate) fn run(rounds: usize) -> Result<bool> {
    let bed = Bed::open()?;
    let dir = bed.runs.join("bench-merge");
    fs::create_dir_all(&dir)?;
    let file = dir.join("stick");
    fs::File::create(&file)?.set_len(STICK_MIB << 20)?;
    let medium = |throttle| Medium {
        content: Content::Random(0),
        bus: Bus::Shared,
        throttle,
    };
    let booted = Boot {
        part: "merge",
        rounds,
        // cowroot checks what it reads; the others do not.
        accel: bed.accel.without_slow_crc(),
        media: vec![
            (medium(Some(SLOW_BPS)), file.clone()),
            (medium(None), file.clone()),
        ],
        deadline: MOST_PER_ROUND * u32::try_from(rounds + 1)?,
    }
    .run(&bed, &dir)?;
    fs::remove_file(file)?;
    let mut table = Table::read(&booted.outcome.report)?;
    for note in booted.notes {
        table.told.note(note);
    }
    table.told.note(host());
    print(&table.markdown(), &dir, booted.outcome.stuck)?;
    Ok(table.told.whole())
}
