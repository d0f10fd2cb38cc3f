//! The persistent store on a simulated disk: power cuts at any command, processes that die at any
//! command, faults at any command, generation after generation.
//!
//! Run one seed again with `COWROOT_SEED=<seed>`; more of them with `COWROOT_SEEDS=<count>`.

mod disk;
mod history;
mod world;

use std::panic::AssertUnwindSafe;

use super::mutant::{self, Mutant};
use disk::Seen;
use world::{Faults, World};

/// What came of many seeds.
#[derive(Default)]
struct Total {
    states: u64,
    distinct: u64,
    violations: Vec<(u64, String)>,
    seen: Seen,
    /// Fewer seeds than usual were asked for: counts mean nothing.
    partial: bool,
}

/// Run `count` seeds, half of them the same every time, half fresh; or the one that was asked for.
fn run_seeds(count: u64, generations: u32, steps: u32, faults: impl Fn(u64) -> Faults) -> Total {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().expect("a number"))
    };
    let count = number("COWROOT_SEEDS").unwrap_or(count);
    let fresh = fastrand::u64(..);
    let seeds = (0..count).map(|n| if n % 2 == 0 { n } else { fresh.wrapping_add(n) });
    let asked: Option<u64> = number("COWROOT_SEED");
    let mut total = Total {
        partial: asked.is_some() || number("COWROOT_SEEDS").is_some(),
        ..Total::default()
    };
    for seed in asked.map_or_else(|| seeds.collect(), |seed| vec![seed]) {
        let mut world = World::new(seed, faults(seed));
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| world.run(generations, steps)));
        let result = result.unwrap_or_else(|_| Err("it panicked".into()));
        total.states += world.states;
        total.distinct += world.distinct.len() as u64;
        total.seen.add(&world.seen);
        if let Err(wrong) = result {
            total.violations.push((seed, wrong));
            if total.violations.len() > 4 {
                break;
            }
        }
    }
    total
}

/// Fail with the seeds that found something.
fn assert_fine(name: &str, total: &Total) {
    let Total {
        states, distinct, ..
    } = total;
    println!(
        "{name}: {states} states, {distinct} distinct; {:?}",
        total.seen.0
    );
    for (seed, wrong) in &total.violations {
        eprintln!("COWROOT_SEED={seed}: {wrong}");
    }
    assert!(total.violations.is_empty(), "{name}: see the seeds above");
}

fn cuts(_: u64) -> Faults {
    Faults {
        cuts: 4,
        short: 20,
        ..Faults::default()
    }
}

#[test]
fn the_device_reads_as_written_with_completions_in_any_order() {
    let total = run_seeds(400, 1, 400, |_| Faults {
        short: 40,
        ..Faults::default()
    });
    assert_fine("any order", &total);
    assert!(total.partial || (total.seen.get("no space") > 20 && total.seen.get("growths") > 20));
}

#[test]
fn a_power_cut_at_any_command_leaves_one_epoch() {
    let total = run_seeds(100, 8, 100, cuts);
    assert_fine("power cuts", &total);
    assert!(total.partial || total.seen.get("torn epochs dropped") > 100);
}

#[test]
fn a_process_that_dies_at_any_command_loses_nothing() {
    let total = run_seeds(150, 2, 300, |_| Faults {
        dying: 30,
        short: 20,
        cuts: 1,
        ..Faults::default()
    });
    assert_fine("deaths", &total);
    assert!(total.partial || total.seen.get("deaths") > 200);
}

#[test]
fn errors_at_any_command_lose_nothing_that_was_acknowledged() {
    let total = run_seeds(150, 2, 300, |seed| Faults {
        failing: 5,
        short: 20,
        cuts: 1,
        dying: if seed % 3 == 0 { 10 } else { 0 },
        ..Faults::default()
    });
    assert_fine("errors", &total);
    assert!(total.partial || total.seen.get("failed syncs") > 20);
}

#[test]
fn every_mutant_is_killed() {
    let mut survived = Vec::new();
    for mutant in Mutant::ALL {
        mutant::set(Some(mutant));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let mut total = Total::default();
        for round in 0..20 {
            let next = run_seeds(20, 8, 100, |_| Faults {
                dying: if round % 2 == 0 { 15 } else { 0 },
                ..cuts(0)
            });
            total.states += next.states;
            total.violations.extend(next.violations);
            if !total.violations.is_empty() {
                break;
            }
        }
        std::panic::set_hook(hook);
        mutant::set(None);
        match total.violations.first() {
            Some((seed, wrong)) => {
                println!(
                    "{mutant:?}: killed after {} states (seed {seed}: {wrong})",
                    total.states
                );
            }
            None => survived.push((mutant, total.states)),
        }
    }
    assert!(survived.is_empty(), "{survived:?}");
}
