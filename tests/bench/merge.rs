//! Merges on this machine's own CPU and disk, `cowroot merge` beside `qemu-img commit`, as `make bench-merge` has them in a
//! VM. device-mapper's is there only: it needs a kernel to play with.
//!
//! ```text
//! merge-bench COWROOT FOLDER [ROUNDS]     in FOLDER, which needs 4 GiB; 5 rounds if not said
//! ```
#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program whose output is the result"
)]

#[path = "../vm/bench/guest/changes.rs"]
mod changes;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cowroot::disk::cowfile::Mode;
use cowroot::disk::drive::{Data, Driver};
use cowroot::media::cowfile::{self, Opened};

use changes::{JOBS, Job, fill, first_difference, write_all};

const BASE_BYTES: u64 = 1 << 30;
/// Of what the base is before.
const ORIGINAL: u64 = 0;

struct Bench {
    cowroot: PathBuf,
    folder: PathBuf,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [cowroot, folder, rounds @ ..] = words.as_slice() else {
        anyhow::bail!("usage: merge-bench COWROOT FOLDER [ROUNDS]");
    };
    let rounds = rounds.first().map_or(Ok(5), |text| text.parse())?;
    ensure!(rounds > 0, "0 rounds have no median");
    let folder = Path::new(folder).join("cowroot-merge-bench");
    let making = || {
        format!(
            "making '{}'; remove what an earlier run has left",
            folder.display()
        )
    };
    fs::create_dir(&folder).with_context(making)?;
    let bench = Bench {
        cowroot: cowroot.into(),
        folder,
    };
    let measured = bench.run(rounds);
    let removed = fs::remove_dir_all(&bench.folder);
    measured?;
    Ok(removed?)
}

impl Bench {
    fn run(&self, rounds: u64) -> Result<()> {
        let all = (0..BASE_BYTES).step_by(1 << 20).collect();
        File::create(self.place("original"))?.set_len(BASE_BYTES)?;
        write(&self.place("original"), ORIGINAL, &(all, 1 << 20))?;
        println!(
            "| changes | cowroot merge | qemu-img commit | cowroot is faster |\n|---|---|---|---|"
        );
        for job in JOBS {
            let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for round in 1..=rounds {
                // Each is first in every second round.
                let (one, other) = match round % 2 {
                    0 => {
                        let one = self.merge(job, round)?;
                        (one, self.commit(job, round)?)
                    }
                    _ => {
                        let other = self.commit(job, round)?;
                        (self.merge(job, round)?, other)
                    }
                };
                ours.push(one);
                theirs.push(other);
                ratios.push(other / one);
            }
            let [(ours, ..), (theirs, ..), (ratio, least, most)] =
                [ours, theirs, ratios].map(spread);
            println!(
                "| {} | {ours:.2} s | {theirs:.2} s | {ratio:.2} ({least:.2}–{most:.2}) |",
                job.name
            );
        }
        Ok(())
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Seconds of `cowroot merge`.
    fn merge(&self, job: Job, seed: u64) -> Result<f64> {
        let (base, cow) = (self.place("base"), self.place("cow"));
        fs::copy(self.place("original"), &base)?;
        let mut create = Command::new(&self.cowroot);
        done(create.arg("create").arg(&cow).arg("--base").arg(&base))?;
        let Opened { files, found, .. } = cowfile::open(&cow, Mode::Write, None)?;
        let mut driver = Driver::open(files, found)?;
        let (offsets, len) = job.writes(BASE_BYTES);
        let mut bytes = vec![0; len];
        for at in &offsets {
            fill(seed, *at, &mut bytes);
            let written = driver.write(*at, Data::Bytes(&bytes));
            written.map_err(|failure| anyhow::anyhow!("writing the session: {failure:?}"))?;
        }
        driver.close()?;
        let mut merge = Command::new(&self.cowroot);
        merge.arg("merge").arg(&cow).arg("--into").arg(&base);
        let seconds = self.time(&mut merge, (offsets, len), seed)?;
        fs::remove_file(cow)?;
        Ok(seconds)
    }

    /// Seconds of `qemu-img commit`.
    fn commit(&self, job: Job, seed: u64) -> Result<f64> {
        let (base, after) = (self.place("base"), self.place("after"));
        let overlay = self.place("overlay");
        let writes = job.writes(BASE_BYTES);
        for copy in [&base, &after] {
            fs::copy(self.place("original"), copy)?;
        }
        write(&after, seed, &writes)?;
        let qemu = |words: &[&str]| {
            let mut command = Command::new("qemu-img");
            command.current_dir(&self.folder).args(words);
            command
        };
        // It has what the base has not of what is to be there.
        let create = [
            "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "after", "overlay",
        ];
        done(&mut qemu(&create))?;
        done(&mut qemu(&[
            "rebase", "-q", "-F", "raw", "-b", "base", "overlay",
        ]))?;
        fs::remove_file(after)?;
        let mut commit = qemu(&["commit", "-q", "overlay"]);
        let seconds = self.time(&mut commit, writes, seed)?;
        fs::remove_file(overlay)?;
        Ok(seconds)
    }

    /// With nothing in the page cache. The base has all changes afterwards.
    fn time(&self, command: &mut Command, writes: (Vec<u64>, usize), seed: u64) -> Result<f64> {
        nix::unistd::sync();
        fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches: root can do that")?;
        let start = Instant::now();
        done(command)?;
        let seconds = start.elapsed().as_secs_f64();
        let base = self.place("base");
        let wrong = first_difference(&base.to_string_lossy(), &writes, seed)?;
        ensure!(
            wrong.is_none(),
            "after {command:?} byte {wrong:?} is another"
        );
        Ok(seconds)
    }
}

fn write(path: &Path, seed: u64, writes: &(Vec<u64>, usize)) -> Result<()> {
    write_all(&path.to_string_lossy(), writes, |at, bytes| {
        fill(seed, at, bytes);
        Ok(())
    })
}

fn done(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

/// Median, least and greatest.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    (
        values[values.len() / 2],
        values[0],
        values[values.len() - 1],
    )
}
