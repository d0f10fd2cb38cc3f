//! The persistent store on a simulated disk: power cuts at any command, processes that die at any
//! command, faults at any command, generation after generation.
//!
//! Run one seed again with `COWROOT_SEED=<seed>` and the name of its test; more of them with
//! `COWROOT_SEEDS=<count>`; `COWROOT_TRACE=1` shows every step.

mod checks;
mod disk;
mod events;
mod history;
mod layers;
mod machine;
mod some;
mod world;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::mutant::{self, Mutant};
use disk::Seen;
use machine::Faults;
use world::World;

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
fn run_seeds(
    count: u64,
    generations: u32,
    steps: u32,
    faults: impl Fn(u64) -> Faults + Sync,
) -> Total {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().expect("a number"))
    };
    let count = number("COWROOT_SEEDS").unwrap_or(count);
    let fresh = fastrand::u64(..);
    let seeds = (0..count).map(|n| match n % 2 {
        0 => n,
        _ => fresh.wrapping_add(n),
    });
    let asked: Option<u64> = number("COWROOT_SEED");
    let partial = asked.is_some() || number("COWROOT_SEEDS").is_some();
    let seeds: Vec<u64> = asked.map_or_else(|| seeds.collect(), |seed| vec![seed]);
    let (next, wrong, broken) = (AtomicUsize::new(0), AtomicUsize::new(0), mutant::now());
    let work = || {
        mutant::set(broken);
        let mut total = Total::default();
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut world = World::new(seed, faults(seed));
            let run = AssertUnwindSafe(|| world.run(generations, steps));
            let result =
                std::panic::catch_unwind(run).unwrap_or_else(|_| Err("it panicked".into()));
            total.states += world.states;
            total.distinct += world.distinct.len() as u64;
            total.seen.add(&world.seen);
            if let Err(what) = result {
                total.violations.push((seed, what));
                wrong.fetch_add(1, Ordering::Relaxed);
            }
            // A few tell enough; of a broken rule, one.
            let most = if broken.is_some() { 1 } else { 4 };
            if wrong.load(Ordering::Relaxed) >= most {
                break;
            }
        }
        total
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(seeds.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut all = Total {
            partial,
            ..Total::default()
        };
        for thread in threads {
            all.add(thread.join().expect("worlds catch their panics"));
        }
        all
    })
}

impl Total {
    fn add(&mut self, other: Self) {
        self.states += other.states;
        self.distinct += other.distinct;
        self.seen.add(&other.seen);
        self.violations.extend(other.violations);
    }

    /// Fail with the seeds that found something, last of all: of a long output only the end may be left.
    fn assert_none(&self, name: &str) {
        let found: String = self
            .violations
            .iter()
            .map(|(seed, wrong)| format!("\nCOWROOT_SEED={seed}: {wrong}"))
            .collect();
        assert!(found.is_empty(), "{name}:{found}");
    }
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
    total.assert_none(name);
}

fn cuts(_: u64) -> Faults {
    Faults {
        cuts: 4,
        short: 20,
        ..Faults::default()
    }
}

fn deaths(_: u64) -> Faults {
    Faults {
        dying: 30,
        short: 20,
        cuts: 2,
        ..Faults::default()
    }
}

fn errors(seed: u64) -> Faults {
    Faults {
        failing: 5,
        short: 20,
        cuts: 2,
        dying: if seed.is_multiple_of(3) { 10 } else { 0 },
        ..Faults::default()
    }
}

#[test]
fn the_device_reads_as_written_with_completions_in_any_order() {
    let total = run_seeds(300, 1, 400, |_| Faults {
        short: 40,
        ..Faults::default()
    });
    assert_fine("any order", &total);
    let seen = |what| total.partial || total.seen.get(what) > 20;
    assert!(seen("no space") && seen("growths"));
}

#[test]
fn a_power_cut_at_any_command_leaves_one_epoch() {
    let total = run_seeds(20, 8, 100, cuts);
    assert_fine("power cuts", &total);
    assert!(total.partial || total.seen.get("torn epochs dropped") > 100);
}

#[test]
fn a_process_that_dies_at_any_command_loses_nothing() {
    let total = run_seeds(60, 2, 300, deaths);
    assert_fine("deaths", &total);
    assert!(total.partial || total.seen.get("deaths") > 200);
    assert!(total.partial || total.seen.get("media pulled") > 40);
}

#[test]
fn errors_at_any_command_lose_nothing_that_was_acknowledged() {
    let total = run_seeds(60, 2, 300, errors);
    assert_fine("errors", &total);
    assert!(total.partial || total.seen.get("failed syncs") > 5);
}

#[test]
fn the_nth_command_failing_loses_nothing() {
    for nth in 1..150 {
        let total = run_seeds(6, 2, 150, |seed| Faults {
            nth: Some(nth),
            nth_is_short: seed.is_multiple_of(3),
            cuts: 1,
            ..Faults::default()
        });
        assert_fine("the nth command", &total);
    }
}

/// Both may happen to it then: it is there, or the one below it takes the writes as before.
#[test]
fn a_layer_that_is_in_no_more_than_a_cache_may_go_with_it() {
    let mut seen = Seen::default();
    for seed in 0..150 {
        let mut world = World::new(seed, cuts(seed));
        let run = |world: &mut World| {
            world.steps(60)?;
            world.lose_memory_at_layer()?;
            world.steps(60)?;
            world.end()
        };
        run(&mut world).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        seen.add(&world.seen);
    }
    for what in ["layers begun in use", "layers begun in a cache and lost"] {
        assert!(seen.get(what) > 10, "{what}: {:?}", seen.0);
    }
}

/// What is promised of a medium whose syncs lie: what reads after a power cut is of one epoch, be it an old one;
/// what is lost is an error.
#[test]
fn syncs_that_lie_lose_what_they_lied_about_and_no_read_is_wrong() {
    let total = run_seeds(60, 1, 400, |_| Faults {
        lying: 300,
        short: 20,
        cuts: 2,
        ..Faults::default()
    });
    assert_fine("lies", &total);
    let seen = |what| total.partial || total.seen.get(what) > 20;
    assert!(seen("lies") && seen("lies found by reads"));
}

/// Rounds of `crash-long`.
const LONG: u64 = 1000;

/// What `make crash` runs: all of the above at length, and every mutant. `COWROOT_CRASH` says how long.
#[test]
fn crash() {
    let rounds: u64 =
        std::env::var("COWROOT_CRASH").map_or(1, |text| text.parse().expect("a number"));
    let mut all = Total::default();
    for (name, generations, steps, faults) in [
        ("power cuts", 8, 100, cuts as fn(u64) -> Faults),
        ("deaths", 8, 100, deaths),
        ("errors", 8, 100, errors),
    ] {
        let total = run_seeds(4 * rounds, generations, steps, faults);
        println!(
            "{name}: {} states, {} distinct",
            total.states, total.distinct
        );
        all.add(total);
    }
    println!("seen: {:?}", all.seen.0);
    // It takes a torn epoch, an open, and a page torn just so: a million states, now and then many more.
    let rare = Mutant::NewIncarnationInPlace;
    let mutants: Vec<Mutant> = Mutant::ALL
        .into_iter()
        .filter(|mutant| rounds >= LONG || *mutant != rare)
        // Fixed seeds alone do not kill them all.
        .filter(|_| std::env::var_os("COWROOT_CRASH").is_some())
        .collect();
    let killed = kill_mutants(&mutants);
    println!(
        "crash: {} states, {} distinct, {} violations, {killed} of {} mutants killed",
        all.states,
        all.distinct,
        all.violations.len(),
        mutants.len()
    );
    all.assert_none("crash");
    assert_eq!(
        killed,
        mutants.len(),
        "tests too weak for those that survived"
    );
}

/// Break every rule in turn, until somebody notices: how many were noticed.
fn kill_mutants(mutants: &[Mutant]) -> usize {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let killed = mutants.iter().filter(|&&mutant| {
        mutant::set(Some(mutant));
        let mut states = 0;
        let killer = (0..200).find_map(|round| {
            let total = match round % 4 {
                0 => run_seeds(10, 8, 100, deaths),
                1 => run_seeds(10, 8, 100, cuts),
                // Nothing goes wrong, at length: some breaks are seen by whoever reads.
                2 => run_seeds(60, 1, 1000, |_| Faults::default()),
                // Many opens, one soon after the other: some breaks show only there.
                _ => run_seeds(20, 40, 20, cuts),
            };
            states += total.states;
            total.violations.into_iter().next()
        });
        mutant::set(None);
        match &killer {
            Some((seed, wrong)) => println!("{mutant:?}: {states} states (seed {seed}: {wrong})"),
            None => println!("{mutant:?} SURVIVED {states} states"),
        }
        killer.is_some()
    });
    let killed = killed.count();
    std::panic::set_hook(hook);
    killed
}
