//! The VM test bed: boots real kernels, real media and a real systemd with the binary under test.
//! README.md beside this file says what there is, how to add a case, and what is kept where.
//!
//! ```text
//! vm list             the cases' names
//! vm run [PART]       the cases whose names contain PART, one after the other
//! vm kills [COUNT]    the cases that kill daemons, each with so many kills
//! vm powercut [IMAGES [PART]]   the power cuts that `run` only samples, on the media whose case contains PART
//! vm bench [ROUNDS]   the table of docs/performance.md; COWROOT_BENCH names tests/vm/bench/guest's program
//! vm bench-stick [ROUNDS]   the same page's tables of cowfiles on a slow stick
//! vm bench-open       how long opens take on a throttled disk; COWROOT_IMAGES names a folder of them
//! vm demo             the live system in this terminal, or its short script without one
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test runner talks to its user"
)]

mod accel;
mod apt;
mod bench;
mod blklog;
mod cache;
mod case;
mod cases;
mod command;
mod cpio;
mod home;
mod initramfs;
mod kernel;
mod loader;
mod media;
mod nfs;
mod open;
mod package;
mod packages;
mod powercut;
mod qemu;
mod qmp;
mod root;
mod rootfs;
mod run;
mod shim;
mod stick;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::case::Case;
use crate::run::Bed;

fn main() -> ExitCode {
    match command_line() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command_line() -> Result<bool> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["list"] => {
            for case in cases::all() {
                println!("{}", case.name);
            }
            for (name, _) in powercut::SAMPLES {
                println!("{name}");
            }
            Ok(true)
        }
        ["run"] => run(cases::all(), ""),
        ["run", part] => run(cases::all(), part),
        ["kills"] => run(cases::killing(10_000), ""),
        ["kills", count] => run(cases::killing(count.parse().context("how many kills")?), ""),
        ["powercut", words @ ..] => powercut::command(words),
        ["bench"] => bench::run(5),
        ["bench", rounds] => bench::run(rounds.parse().context("how many rounds")?),
        ["bench-stick"] => bench::stick::run(3),
        ["bench-stick", rounds] => bench::stick::run(rounds.parse().context("how many rounds")?),
        ["bench-open"] => open::run(),
        ["demo"] => demo(),
        _ => bail!(
            "one of: list, run [PART], kills [COUNT], powercut [IMAGES [PART]], bench [ROUNDS], bench-stick [ROUNDS], \
             bench-open, demo"
        ),
    }
}

/// Runs the matching ones of `cases`; true if all passed.
/// What takes minutes and shows what a shorter case shows, too: only when it is asked for by this name.
const LONG: &str = "-long";

fn run(cases: Vec<Case>, part: &str) -> Result<bool> {
    let (long, cases): (Vec<Case>, Vec<Case>) = cases
        .into_iter()
        .filter(|case| case.name.contains(part))
        .partition(|case| case.name.ends_with(LONG) && !part.contains(LONG));
    if !long.is_empty() {
        println!(
            "vm: {} cases that end in {LONG} are left out: make vm CASE={LONG} runs them",
            long.len()
        );
    }
    let samples = powercut::SAMPLES.into_iter();
    let samples: Vec<_> = samples.filter(|(name, _)| name.contains(part)).collect();
    if cases.is_empty() && samples.is_empty() {
        bail!("no case's name contains '{part}'; `make vm-list` shows them");
    }
    let bed = Bed::open()?;
    let mut results = Vec::new();
    for case in &cases {
        let passed = told(case.name, || bed.run(case).map(drop));
        results.push((case.name, passed));
    }
    for (name, on) in samples {
        let sample = || powercut::cut(&bed, on, powercut::Extent::SAMPLE);
        results.push((name, told(name, sample)));
    }
    let failed = results.iter().filter(|(_, passed)| !passed);
    let failed: Vec<&str> = failed.map(|(name, _)| *name).collect();
    println!(
        "{} passed, {} failed",
        results.len() - failed.len(),
        failed.len()
    );
    // Once more, where the end of a long output is all that one sees.
    failed.iter().for_each(|name| println!("failed: {name}"));
    Ok(failed.is_empty())
}

/// Runs a case and says how it ended; true if it passed.
fn told(name: &str, case: impl FnOnce() -> Result<()>) -> bool {
    let start = Instant::now();
    let result = case();
    let seconds = start.elapsed().as_secs();
    match &result {
        Ok(()) => println!("case {name} ok {seconds}"),
        Err(error) => println!("case {name} FAILED {seconds}\n{error:#}"),
    }
    result.is_ok()
}

/// Boots the first case's machine for a person, or has the guest show itself off.
fn demo() -> Result<bool> {
    let Some(mut case) = cases::all().into_iter().next() else {
        bail!("no case to show")
    };
    let interactive = std::io::stdin().is_terminal();
    case.name = "demo";
    case.guest = if interactive { "" } else { "demo" };
    let bed = Bed::open()?;
    if interactive {
        println!(
            "Booting a live Debian from a CD. `poweroff` in it ends it; Ctrl-A X stops it at once."
        );
    }
    bed.demo(&case, interactive)
}
