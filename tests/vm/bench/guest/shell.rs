//! Running programs, and saying what came of it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::contender::Contender;

/// The second serial line.
pub(crate) struct Report(Mutex<File>);

impl Report {
    pub(crate) fn open() -> Result<Self> {
        let line = OpenOptions::new().write(true).open("/dev/ttyS1");
        Ok(Self(Mutex::new(
            line.context("opening the second serial line")?,
        )))
    }

    /// One figure: `job` of `contender` in `round`, with whatever else belongs to it.
    pub(crate) fn figure(
        &self,
        contender: Contender,
        round: usize,
        job: &str,
        more: Value,
    ) -> Result<()> {
        let mut line = json!({"contender": contender.name(), "round": round, "job": job});
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        self.say(&format!("BENCH {line}"))
    }

    /// What kept a contender from being measured.
    pub(crate) fn outcome(&self, contender: Contender, result: Result<()>) {
        if let Err(error) = result {
            let _ = self
                .say(&format!("BENCH-TROUBLE {}: {error:#}", contender.name()).replace('\n', " "));
        }
    }

    /// A line of its own kind.
    pub(crate) fn say(&self, line: &str) -> Result<()> {
        let mut file = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(writeln!(file, "{line}")?)
    }
}

/// Run a command line (words separated by blanks); what it printed, without the last newline.
pub(crate) fn sh(line: &str) -> Result<String> {
    let out = Command::new("sh")
        .arg("-c")
        .arg(line)
        .stdin(Stdio::null())
        .output();
    let out = out.with_context(|| format!("starting '{line}'"))?;
    if !out.status.success() {
        let said = [out.stderr, out.stdout].concat();
        let said = String::from_utf8_lossy(&said);
        bail!("running '{line}': {} {:.300}", out.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim_end().to_owned())
}

/// Seconds that a command line takes.
pub(crate) fn timed(line: &str) -> Result<f64> {
    let start = Instant::now();
    sh(line)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Microseconds of CPU that all threads of a process have had.
pub(crate) fn cpu_us(pid: u32) -> Result<u64> {
    let mut sum_ns = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("listing threads")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let ran: u64 = text.split(' ').next().unwrap_or_default().parse()?;
        sum_ns += ran;
    }
    Ok(sum_ns / 1000)
}

/// A process's anonymous resident memory in KiB.
pub(crate) fn rss_anon_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let number = line.context("no RssAnon in the process's status")?;
    Ok(number
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .parse()?)
}
