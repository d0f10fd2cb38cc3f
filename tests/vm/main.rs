//! The VM test bed: boots real kernels, real media and a real systemd with the binary under test.
//! README.md beside this file says what there is, how to add a case, and what is kept where.
//!
//! ```text
//! vm list             the cases' names
//! vm run [PART]       the cases whose names contain PART, two at a time where there are two cores
//! vm kills [COUNT]    the cases that kill daemons, each with so many kills
//! vm powercut [IMAGES [PART]]   the power cuts that `run` only samples, on the media whose case contains PART
//! vm bench [ROUNDS]   the table of docs/performance.md; COWROOT_BENCH names tests/vm/bench/guest's program
//! vm bench-stick [ROUNDS]   the same page's tables of cowfiles on a slow stick
//! vm bench-merge [ROUNDS]   merges beside snapshot-merge's and qemu-img's, on the same stick
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
mod cut;
mod home;
mod initramfs;
mod judge;
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
mod queue;
mod root;
mod rootfs;
mod run;
mod shim;
mod stick;
mod watch;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

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
        ["run"] => queue::run(cases::all(), "", queue::threads()),
        ["run", part] => queue::run(cases::all(), part, queue::threads()),
        ["kills"] => queue::run(cases::killing(10_000), "", 1),
        ["kills", count] => {
            let count = count.parse().context("how many kills")?;
            queue::run(cases::killing(count), "", 1)
        }
        ["powercut", words @ ..] => powercut::command(words),
        ["bench"] => bench::run(5),
        ["bench", rounds] => bench::run(rounds.parse().context("how many rounds")?),
        ["bench-stick"] => bench::stick::run(3),
        ["bench-stick", rounds] => bench::stick::run(rounds.parse().context("how many rounds")?),
        ["bench-merge"] => bench::merge::run(3),
        ["bench-merge", rounds] => bench::merge::run(rounds.parse().context("how many rounds")?),
        ["bench-open"] => open::run(),
        ["demo"] => demo(),
        _ => bail!(
            "one of: list, run [PART], kills [COUNT], powercut [IMAGES [PART]], bench [ROUNDS], bench-stick [ROUNDS], \
             bench-merge [ROUNDS], bench-open, demo"
        ),
    }
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
