//! Runs cases, as many at a time as the machine has cores for, and says how each ended.

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use crate::case::Case;
use crate::powercut::{self, On};
use crate::run::Bed;

/// What takes minutes and shows what a shorter case shows, too: only when it is asked for by this name.
const LONG: &str = "-long";

/// A case keeps about one core busy. More than so many at a time wait for disks and servers rather than for cores.
const MOST_THREADS: usize = 4;

/// So much of each failure is said again at the end.
const MOST_CHARS: usize = 400;

enum Job {
    Case(Box<Case>),
    Powercut(&'static str, On),
}

impl Job {
    fn name(&self) -> &'static str {
        match self {
            Self::Case(case) => case.name,
            Self::Powercut(name, _) => name,
        }
    }

    fn run(&self, bed: &Bed) -> Result<()> {
        match self {
            Self::Case(case) => bed.run(case).map(drop),
            Self::Powercut(_, on) => powercut::cut(bed, *on, powercut::Extent::SAMPLE),
        }
    }
}

/// How many cases to run at a time on this machine.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS))
}

/// Runs the matching ones of `cases`, `threads` at a time; true if all passed.
pub(crate) fn run(cases: Vec<Case>, part: &str, threads: usize) -> Result<bool> {
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
    let samples = samples.filter(|(name, _)| name.contains(part));
    let samples = samples.map(|(name, on)| Job::Powercut(name, on));
    let cases = cases.into_iter().map(|case| Job::Case(Box::new(case)));
    let jobs: Vec<Job> = cases.chain(samples).collect();
    if jobs.is_empty() {
        bail!("no case's name contains '{part}'; `make vm-list` shows them");
    }
    let failed = run_all(&jobs, threads.min(jobs.len()))?;
    println!(
        "{} passed, {} failed",
        jobs.len() - failed.len(),
        failed.len()
    );
    // Once more, where the end of a long output is all that one sees.
    for (name, why) in &failed {
        println!("failed: {name}: {}", in_short(why));
    }
    Ok(failed.is_empty())
}

/// The jobs that failed and why, in the order they ended in.
fn run_all(jobs: &[Job], threads: usize) -> Result<Vec<(&'static str, String)>> {
    let (next, failed) = (Mutex::new(jobs.iter()), Mutex::new(Vec::new()));
    // What the threads wait for while they hold these cannot fail.
    let take = || next.lock().ok().and_then(|mut next| next.next());
    let work = || -> Result<()> {
        let bed = Bed::open()?;
        while let Some(job) = take() {
            if let Err(why) = told(job.name(), || job.run(&bed))
                && let Ok(mut failed) = failed.lock()
            {
                failed.push((job.name(), format!("{why:#}")));
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            let ended = thread.join();
            ended.map_err(|_| anyhow!("a thread of the test bed panicked"))?
        })
    })?;
    failed
        .into_inner()
        .map_err(|_| anyhow!("a thread of the test bed panicked"))
}

/// Runs a case and says how it ended.
fn told(name: &str, case: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let result = case();
    let seconds = start.elapsed().as_secs();
    match &result {
        Ok(()) => println!("case {name} ok {seconds}"),
        Err(error) => println!("case {name} FAILED {seconds}\n{error:#}"),
    }
    result
}

/// The first of what a failure says, without the console's end that follows.
fn in_short(why: &str) -> String {
    let lines = why.lines().take_while(|line| !line.starts_with("  "));
    let line = lines.collect::<Vec<_>>().join("; ");
    match line.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
