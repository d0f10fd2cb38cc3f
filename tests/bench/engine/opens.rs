//! A store of many changes: its memory, its checkpoints, and what an open of it reads.

use std::time::Duration;

use cowroot::engine::command::Op;
use cowroot::engine::cowfile::recover::recover;

use crate::machine::{Machine, SETTINGS, SHAPE};
use crate::medium::Counts;
use crate::{Load, anonymous_bytes, cpu, each, median, mib, ms, row, title};

/// Commit pages that are not yet so many that a checkpoint begins.
pub(crate) const PAGES: u64 = SETTINGS.journal_pages as u64 - 8;

pub(crate) fn opens(name: &str, load: Load) {
    let machine = written(name, &load);
    title(
        &format!("Checkpoint and opens, {name}"),
        &[
            "what",
            "reads",
            "read",
            "on a slow disk",
            "writes",
            "written",
            "syncs",
            "CPU",
        ],
    );
    let machine = checkpointed(machine, &load);
    let machine = opened("clean open", machine, &load);
    // From few pages with much in each to one page for every chunk.
    let mut machine = machine;
    for (epochs, chunks) in [
        (13, SETTINGS.staging_chunks as u64 / 4),
        (PAGES, 16),
        (PAGES, 1),
    ] {
        let last;
        (machine, last) = crashed(machine, &load, (epochs, chunks));
        let what = format!("unclean open, {epochs} epochs of {chunks} chunks and one of {last}");
        machine = opened(&what, machine, &load);
    }
}

/// A store with all its changes, and what memory it took.
fn written(name: &str, load: &Load) -> Machine {
    let mut machine = load.machine();
    let own = |machine: &Machine| anonymous_bytes() - machine.medium.page_bytes();
    let before = own(&machine);
    title(
        &format!("Memory, {name}"),
        &["changes", "in all", "for each GiB", "CPU for each chunk"],
    );
    let begun = cpu();
    let mut number = 0;
    for part in [load.chunks / 4, load.chunks] {
        while number < part {
            machine.write_now(load.chunk(number), 1, number + 1);
            number += 1;
        }
        let bytes = own(&machine).saturating_sub(before);
        let gib = part as f64 / f64::from(1 << 18);
        row(&[
            format!("{gib} GiB"),
            mib(bytes),
            mib((bytes as f64 / gib) as u64),
            each(cpu() - begun, part),
        ]);
    }
    machine
}

/// How much a checkpoint does; then the store is closed.
fn checkpointed(mut machine: Machine, load: &Load) -> Machine {
    machine.close();
    let mut machine = machine.reopen();
    machine.run();
    let count = SETTINGS.journal_chunks as u64 - 100;
    for number in 0..count {
        machine.write_now(load.chunk(number), 1, number + 1);
    }
    machine.flush_now();
    machine.run();
    machine.medium.counts = Counts::default();
    let begun = cpu();
    machine.close();
    show(
        &format!("checkpoint of {count} chunks"),
        &machine.medium.counts,
        cpu() - begun,
    );
    machine
}

fn show(what: &str, counts: &Counts, cpu: Duration) {
    row(&[
        what.into(),
        counts.reads.to_string(),
        mib(counts.read_bytes),
        format!("{:.0} ms", counts.read_ms()),
        counts.writes.to_string(),
        mib(counts.write_bytes),
        counts.syncs.to_string(),
        ms(cpu),
    ]);
}

/// Open what `machine` leaves behind, use it, and close it again.
fn opened(what: &str, machine: Machine, load: &Load) -> Machine {
    let mut medium = machine.medium;
    let recovering = median(|| {
        medium.counts = Counts::default();
        let begun = cpu();
        recover(&mut medium, SHAPE, None).unwrap();
        cpu() - begun
    });
    show(&format!("{what}: recovered"), &medium.counts, recovering);

    medium.counts = Counts::default();
    let found = recover(&mut medium, SHAPE, None).unwrap();
    let mut machine = Machine::with(medium, found, cpu().as_nanos() as u64);
    let begun = cpu();
    machine.submit(Op::Read, load.chunk(load.chunks / 2), 1);
    machine.run_until_done();
    let so_far = recovering + (cpu() - begun);
    show(
        "… and the first request served",
        &machine.medium.counts,
        so_far,
    );
    assert_eq!(machine.mark_read(), load.chunks / 2 + 1, "what was written");

    machine.run();
    let so_far = recovering + (cpu() - begun);
    show("… and all known", &machine.medium.counts, so_far);

    machine.medium.counts = Counts::default();
    let begun = cpu();
    machine.write_now(load.chunk(load.chunks - 1), 1, load.chunks);
    machine.submit(Op::Flush, 0, 0);
    machine.run_until_done();
    show(
        "its first write and flush",
        &machine.medium.counts,
        cpu() - begun,
    );
    machine.run();
    machine.close();
    machine
}

/// A store that the power was cut from at the worst moment: the journal as long as it gets before a
/// checkpoint, and behind it the largest epoch, all of it written and nothing of it known to be. How
/// many chunks that epoch has.
pub(crate) fn crashed(
    machine: Machine,
    load: &Load,
    (epochs, chunks): (u64, u64),
) -> (Machine, u32) {
    let mut machine = machine.reopen();
    machine.run();
    let mut number = 0;
    let mut next = || {
        number += 1;
        (load.chunk(number - 1), number)
    };
    for _ in 0..epochs {
        for _ in 0..chunks {
            let (chunk, mark) = next();
            machine.write_now(chunk, 1, mark);
        }
        machine.flush_now();
        machine.run();
    }
    // An epoch begins to be committed; nothing of it is written while the next one fills.
    while machine.is_idle() {
        let (chunk, mark) = next();
        machine.write(chunk, 1, mark);
    }
    let closing = machine.store.usage().staged;
    loop {
        let (chunk, mark) = next();
        if !machine.write(chunk, 1, mark) {
            break;
        }
    }
    let last = machine.store.usage().staged - closing;
    machine.run_up_to_sync();
    machine.step();
    machine.run_up_to_sync();
    (machine, last)
}
