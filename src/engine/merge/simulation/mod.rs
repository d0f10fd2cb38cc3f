//! Merges on simulated disks: cut at any command, cowfile, base, log and new image torn each on its own, gone on with,
//! and cut again.
//!
//! Run one seed again with `COWROOT_SEED=<seed>` and the name of its test; more of them with `COWROOT_SEEDS=<count>`.

mod damage;
mod disk;
mod reading;
mod reads;
mod world;

use std::panic::AssertUnwindSafe;

use super::mutant::{self, Mutant};
use crate::engine::cowfile::layers::merging::merged_with;
use crate::engine::format::superblock::{Merge, MergeState};
use disk::Which;
use reads::{check, describe, first_difference};
use world::World;

/// What a seed does after its merge.
const MOST_CUTS: u32 = 60;

fn some_world(seed: u64) -> Result<World, String> {
    let mut world = World::new(seed);
    for number in 0..world.random.u8(1..=4) {
        if number > 0 {
            world.seal()?;
        }
        world.serve()?;
    }
    Ok(world)
}

fn some_merge(world: &mut World) -> Result<Merge, String> {
    let stack = world.open()?.superblock.stack();
    let (top, _) = stack[world.random.usize(0..stack.len())];
    Ok(Merge {
        top,
        frees: world.random.bool(),
        is_logged: world.random.bool(),
        id: world.random.u64(..),
        ..Merge::default()
    })
}

/// Until it is over, through cuts; now and then a session is served between, and now and then the undo log is lost. As
/// what it ended.
fn merge_through_cuts(world: &mut World, mut merge: Merge) -> Result<Merge, String> {
    for _ in 0..MOST_CUTS {
        if world.with_cut(120, |world| world.merge(merge))? {
            return Ok(merge);
        }
        let merging = world.open()?.superblock.merge;
        if merging.state != MergeState::UnderWay && merge.kept_is_done(merging) {
            return Ok(merge);
        }
        if merging.state == MergeState::UnderWay && merge.is_logged && world.random.u8(0..8) == 0 {
            merge.is_logged = false;
            merge.id = world.random.u64(..);
        }
        if world.random.u8(0..3) == 0 {
            world.serve()?;
        }
    }
    world.machine.borrow_mut().left = u64::MAX;
    let merged = world.merge(merge);
    merged.map_err(|stopped| format!("{stopped:?}"))?;
    Ok(merge)
}

impl Merge {
    /// Whether the superblocks say that this one is over: a cut may come behind its last command.
    fn kept_is_done(&self, now: Self) -> bool {
        now.state == MergeState::None && now.id == self.id
    }
}

fn run_seed(seed: u64) -> (Result<(), String>, u64) {
    let mut states = 0;
    let result = (|| {
        let mut world = some_world(seed)?;
        let result = match seed % 3 {
            0 => output(&mut world),
            _ => in_place(&mut world),
        };
        states = *world.states.borrow();
        result
    })();
    (result, states)
}

fn in_place(world: &mut World) -> Result<(), String> {
    for _ in 0..2 {
        let old_base = world.bytes(Which::Base);
        let wanted = some_merge(world)?;
        let before = world.open()?.superblock;
        let merged = merged_with(&before, wanted.top);
        if wanted.is_logged && world.random.u8(0..3) == 0 {
            world.end_before_a_record_is_durable(wanted)?;
        }
        let now = world.open()?.superblock.merge;
        let merge = match now.state != MergeState::UnderWay && wanted.kept_is_done(now) {
            true => wanted,
            false => merge_through_cuts(world, wanted)?,
        };
        over(world, merge, merged.len())?;
        if merge.id != wanted.id && world.take_back().is_ok() {
            return Err("a log that does not have it all was laid back".into());
        }
        if merge.is_logged && !merge.frees && world.random.bool() {
            if world.random.bool() {
                world.serve()?;
            }
            undo_through_cuts(world)?;
            let base = world.bytes(Which::Base);
            if let Some(at) = first_difference(&base, &old_base) {
                return Err(format!("after the undo the base differs at byte {at}"));
            }
            let cow = world.bytes(Which::Cow);
            check(world.shape, &cow, &base, &world.model.borrow().device)?;
            continue;
        }
        for _ in 0..world.random.u8(0..3) {
            world.serve()?;
        }
    }
    Ok(())
}

fn undo_through_cuts(world: &mut World) -> Result<(), String> {
    for _ in 0..MOST_CUTS {
        if world.with_cut(80, World::take_back)? {
            return Ok(());
        }
        let merge = world.open()?.superblock.merge;
        if merge == Merge::default() {
            return Ok(());
        }
    }
    world.take_back().map_err(|stopped| format!("{stopped:?}"))
}

/// The base alone is what the layers were; with the session it is what it was.
fn over(world: &mut World, merge: Merge, merged: usize) -> Result<(), String> {
    let (cow, base) = (world.bytes(Which::Cow), world.bytes(Which::Base));
    let found = check(world.shape, &cow, &base, &world.model.borrow().device)?;
    let now = found.superblock.merge;
    if now.state != MergeState::None {
        return Err(format!("it is over, and yet {:?}", now.state));
    }
    if !merge.frees && now.kept.count_ones() as usize != merged {
        return Err(format!("{merged} layers were merged, kept: {:b}", now.kept));
    }
    let mut model = world.model.borrow_mut();
    let wanted = model.below.iter().find(|(number, _)| *number == merge.top);
    let wanted = wanted.ok_or("no such layer")?.1.clone();
    if let Some(at) = first_difference(&base, &wanted) {
        return Err(format!("the base alone differs at byte {at}"));
    }
    if describe(&base) != found.superblock.description {
        return Err("the cowfile wants another base".into());
    }
    // The empty layer reads as the base does.
    let active = found.superblock.active_layer;
    let device = model.device.clone();
    model.below.retain(|(number, _)| *number != active);
    model.below.push((active, device));
    Ok(())
}

fn output(world: &mut World) -> Result<(), String> {
    let stack = world.open()?.superblock.stack();
    let (top, _) = stack[world.random.usize(0..stack.len())];
    let (cow, base) = (world.bytes(Which::Cow), world.bytes(Which::Base));
    let wanted = {
        let mut model = world.model.borrow_mut();
        model.below.retain(|(number, _)| *number == top);
        model.below[0].1.clone()
    };
    let mut is_resumed = false;
    for cuts in 0..MOST_CUTS {
        let most = if cuts < MOST_CUTS / 2 { 60 } else { u64::MAX };
        let is_over = world.with_cut(most, |world| world.output(top, is_resumed))?;
        let is_named = world.machine.borrow().named.0;
        if is_over || is_named {
            let image = world.bytes(Which::Image);
            if let Some(at) = first_difference(&image, &wanted) {
                return Err(format!("the new image differs at byte {at}"));
            }
            break;
        }
        is_resumed = true;
    }
    match (world.bytes(Which::Cow), world.bytes(Which::Base)) == (cow, base) {
        true => Ok(()),
        false => Err("cowfile or base were written".into()),
    }
}

/// Run some seeds, half of them the same every time: the states looked at, and the first that went wrong.
fn run_seeds(count: u64, fresh: u64) -> (u64, Option<(u64, String)>) {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().expect("a number"))
    };
    let count = number("COWROOT_SEEDS").unwrap_or(count);
    let asked: Option<u64> = number("COWROOT_SEED");
    let seeds = (0..count).map(|n| {
        if n % 2 == 0 {
            n / 2
        } else {
            fresh.wrapping_add(n)
        }
    });
    let seeds: Vec<u64> = asked.map_or_else(|| seeds.collect(), |seed| vec![seed]);
    let mut states = 0;
    for seed in seeds {
        let run = std::panic::catch_unwind(AssertUnwindSafe(|| run_seed(seed)));
        let (result, seen) = run.unwrap_or_else(|_| (Err("it panicked".into()), 0));
        states += seen;
        if let Err(wrong) = result {
            return (states, Some((seed, wrong)));
        }
    }
    (states, None)
}

#[test]
fn a_merge_cut_at_any_command_reads_as_before_and_goes_on() {
    let (states, wrong) = run_seeds(100, fastrand::u64(..));
    println!("merges: {states} states");
    if let Some((seed, wrong)) = wrong {
        panic!("COWROOT_SEED={seed}: {wrong}");
    }
}

/// What `make crash` runs: the above at length, and every mutant. `COWROOT_CRASH` says how long.
#[test]
fn crash() {
    let asked = std::env::var("COWROOT_CRASH").ok();
    let rounds: u64 = asked
        .as_ref()
        .map_or(1, |text| text.parse().expect("a number"));
    let (states, wrong) = run_seeds(2 * rounds, fastrand::u64(..));
    println!("merges: {states} states");
    if let Some((seed, wrong)) = wrong {
        panic!("COWROOT_SEED={seed}: {wrong}");
    }
    // Two seeds do not kill them all.
    let mutants = asked.map_or(&[][..], |_| &Mutant::ALL);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut survivors = Vec::new();
    for &broken in mutants {
        mutant::set(Some(broken));
        let (states, wrong) = run_seeds(3000, fastrand::u64(..));
        mutant::set(None);
        match wrong {
            Some((seed, wrong)) => println!("{broken:?}: {states} states (seed {seed}: {wrong})"),
            None => survivors.push(broken),
        }
    }
    std::panic::set_hook(hook);
    assert_eq!(mutant::now(), None);
    assert!(survivors.is_empty(), "tests too weak for {survivors:?}");
}
