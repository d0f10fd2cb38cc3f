//! The bench's guest: runs inside the VM that `make bench` boots, sets each contender up over the same
//! base in the same tmpfs, and measures it. What it finds goes to the second serial line, one JSON object
//! a line; tests/vm/bench makes tables of them.
//!
//! ```text
//! bench run ROUNDS    everything, in alternating order
//! bench stick ROUNDS  cowfiles that stay, on a slow stick and on one without delay
//! bench merge ROUNDS  changes merged into their base, on the same sticks
//! bench null BYTES    libublk's floor: a device that completes every request at once
//! bench loop FILE     a file through libublk, read and written in the queue's thread
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of the bench, whose output is the result"
)]

mod ceiling;
mod changes;
mod contender;
mod disks;
mod fio;
mod merge;
mod shell;
mod stick;
mod work;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::contender::Contender;
use crate::shell::Report;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["run", rounds] => rounds
            .parse()
            .context("how many rounds")
            .and_then(|n| run(n, &Report::open()?)),
        ["stick", rounds] => rounds
            .parse()
            .context("how many rounds")
            .and_then(|n| stick::run(n, &Report::open()?)),
        ["merge", rounds] => rounds
            .parse()
            .context("how many rounds")
            .and_then(|n| merge::run(n, &Report::open()?)),
        ["null", bytes] => bytes
            .parse()
            .context("how many bytes")
            .and_then(ceiling::null),
        ["loop", file] => ceiling::file(file.as_ref()),
        _ => bail_usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bail_usage() -> Result<()> {
    bail!("one of: run ROUNDS, stick ROUNDS, merge ROUNDS, null BYTES, loop FILE")
}

/// All measurements, `rounds` times. A contender that fails is reported and left out, so that the others
/// still have figures.
fn run(rounds: usize, report: &Report) -> Result<()> {
    for round in 0..rounds {
        for contender in order(Contender::FOR_WORK, round) {
            report.outcome(contender, work::measure(contender, round, report));
        }
        for contender in order(Contender::RAW, round) {
            report.outcome(contender, fio::measure(contender, round, report));
        }
    }
    report.outcome(Contender::Cowroot, work::idle(report));
    Ok(())
}

/// Who comes when: each round begins with another one, and every second goes backwards, so that nobody
/// always follows the same neighbour.
fn order<C: Copy>(all: &[C], round: usize) -> Vec<C> {
    let mut order = all.to_vec();
    order.rotate_left(round / 2 % all.len().max(1));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}
