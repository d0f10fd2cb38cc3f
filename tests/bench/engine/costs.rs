//! What single requests and commits cost.

use std::time::Duration;

use cowroot::engine::command::Op;

use crate::machine::{Machine, SETTINGS};
use crate::medium::CHUNK;
use crate::{Load, Pattern, cpu, each, median, mib, ms, row, title};

/// Writes that are accepted and not committed yet.
const BATCH: u64 = SETTINGS.staging_chunks as u64 / 4 - 1;

/// CPU time of one request of 4 KiB.
pub(crate) fn costs() {
    title(
        "CPU time of one request of 4 KiB, copying its bytes included",
        &["what", "sequential", "scattered"],
    );
    both("write: accepted", |machine, load| {
        let all = timed(|| {
            for number in 0..BATCH {
                machine.write(load.chunk(number), 1, number + 1);
            }
        });
        machine.flush_now();
        (all, BATCH)
    });
    both(
        "write: accepted, committed, and its part of a checkpoint",
        |machine, load| {
            let count = 4 * SETTINGS.journal_chunks as u64;
            let all = timed(|| {
                for number in 0..count {
                    machine.write_now(load.chunk(number % load.chunks), 1, number + 1);
                }
                machine.flush_now();
            });
            (all, count)
        },
    );
    both("read: from staging", |machine, load| {
        for number in 0..BATCH {
            machine.write(load.chunk(number), 1, number + 1);
        }
        let all = timed(|| reads(machine, load, BATCH));
        machine.flush_now();
        (all, BATCH)
    });
    both("read: named in the journal", |machine, load| {
        for number in 0..BATCH {
            machine.write(load.chunk(number), 1, number + 1);
        }
        machine.flush_now();
        (timed(|| reads(machine, load, BATCH)), BATCH)
    });
    both("read: named in a tree, its page in RAM", |machine, load| {
        // Written long ago, and not by what was measured above.
        let chunk = load.chunk(load.chunks / 2);
        machine.read_now(chunk, 1);
        let all = timed(|| (0..1000).for_each(|_| machine.read_now(chunk, 1)));
        (all, 1000)
    });
    row(&[
        "of all these: the medium's part of a read".into(),
        each(fill_cost(), 1000),
        String::new(),
    ]);
}

/// A row with the time of a request, of as many as `cost` says, on a store of 1 GiB of changes.
fn both(what: &str, cost: fn(&mut Machine, &Load) -> (Duration, u64)) {
    let cells = [Pattern::Sequential, Pattern::Scattered].map(|pattern| {
        let load = Load::of_gib(pattern, 1);
        let mut machine = load.machine();
        for number in 0..load.chunks {
            machine.write_now(load.chunk(number), 1, number + 1);
        }
        machine.flush_now();
        let mut count = 1;
        let all = median(|| {
            let (all, requests) = cost(&mut machine, &load);
            count = requests;
            all
        });
        each(all, count)
    });
    row(&[what.into(), cells[0].clone(), cells[1].clone()]);
}

fn reads(machine: &mut Machine, load: &Load, count: u64) {
    for number in 0..count {
        machine.read_now(load.chunk(number), 1);
        debug_assert_eq!(machine.mark_read(), number + 1);
    }
}

fn timed(what: impl FnOnce()) -> Duration {
    let before = cpu();
    what();
    cpu() - before
}

fn fill_cost() -> Duration {
    let mut chunk = vec![0; CHUNK];
    median(|| {
        timed(|| {
            for mark in 1..=1000 {
                crate::medium::fill(std::hint::black_box(&mut chunk), mark);
            }
        })
    })
}

/// What it takes to make a batch of chunks durable.
pub(crate) fn commits() {
    title(
        "A commit",
        &["chunks", "where", "CPU", "writes", "bytes", "syncs"],
    );
    for count in [1, 256, 4095] {
        for pattern in [Pattern::Sequential, Pattern::Scattered] {
            let load = Load::of_gib(pattern, 1);
            let mut machine = load.machine();
            machine.write_now(load.chunk(load.chunks - 1), 1, 1);
            machine.flush_now();
            let mut counts = machine.medium.counts;
            let all = median(|| {
                for number in 0..count {
                    machine.write(load.chunk(number), 1, number + 1);
                }
                machine.medium.counts = Default::default();
                let all = timed(|| {
                    machine.submit(Op::Flush, 0, 0);
                    machine.run();
                });
                counts = machine.medium.counts;
                all
            });
            row(&[
                count.to_string(),
                format!("{pattern:?}").to_lowercase(),
                ms(all),
                counts.writes.to_string(),
                mib(counts.write_bytes),
                counts.syncs.to_string(),
            ]);
        }
    }
}
