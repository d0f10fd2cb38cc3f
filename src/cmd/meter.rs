//! How far a merge is: a bar on a terminal, a line a second elsewhere, or lines of JSON.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::progress::Progress;
use crate::cli::Shown;
use crate::media::text;

/// What is told at most so often.
const EVERY: Duration = Duration::from_secs(1);

/// Tells of one phase after the other.
#[derive(Debug)]
pub struct Meter {
    shown: Shown,
    phase: Option<Phase>,
}

#[derive(Debug)]
struct Phase {
    name: &'static str,
    bar: Option<Progress>,
    began: Instant,
    told: Instant,
    last: (u64, u64),
}

/// A line of `--progress=json`.
#[derive(Serialize)]
struct Line {
    phase: &'static str,
    done_bytes: u64,
    total_bytes: u64,
    bytes_per_second: u64,
    seconds_left: Option<u64>,
}

impl Phase {
    fn rate(&self, done: u64) -> u64 {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        done.saturating_mul(1000) / millis.max(1)
    }

    fn line(&self) -> Line {
        let (done, total) = self.last;
        let rate = self.rate(done);
        Line {
            phase: self.name,
            done_bytes: done,
            total_bytes: total,
            bytes_per_second: rate,
            seconds_left: total.saturating_sub(done).checked_div(rate),
        }
    }
}

impl Meter {
    /// Tell so.
    #[must_use]
    pub fn new(shown: Shown) -> Self {
        Self { shown, phase: None }
    }

    /// So many bytes of this phase are done.
    pub fn at(&mut self, name: &'static str, done: u64, total: u64) {
        if self.phase.as_ref().is_none_or(|phase| phase.name != name) {
            self.done();
            let is_bar = self.shown == Shown::Auto && std::io::stderr().is_terminal();
            let now = Instant::now();
            self.phase = Some(Phase {
                name,
                bar: is_bar.then(|| Progress::new(name, total)),
                began: now,
                told: now,
                last: (0, total),
            });
        }
        let Some(phase) = &mut self.phase else { return };
        phase.last = (done, total);
        if let Some(bar) = &mut phase.bar {
            bar.at(done);
        } else if phase.told.elapsed() >= EVERY {
            phase.told = Instant::now();
            tell(self.shown, phase);
        }
    }

    /// What was told of is over.
    pub fn done(&mut self) {
        let Some(mut phase) = self.phase.take() else {
            return;
        };
        match phase.bar.take() {
            Some(bar) => bar.done(),
            None if self.shown == Shown::Json => tell(self.shown, &phase),
            None => {}
        }
    }
}

fn tell(shown: Shown, phase: &Phase) {
    let line = phase.line();
    let told = match shown {
        Shown::None => Ok(()),
        Shown::Json => match serde_json::to_string(&line) {
            Ok(json) => writeln!(std::io::stdout(), "{json}"),
            Err(_) => Ok(()),
        },
        Shown::Auto => writeln!(
            std::io::stderr(),
            "{}: {} of {}, {}/s{}",
            line.phase,
            text::size(line.done_bytes),
            text::size(line.total_bytes),
            text::size(line.bytes_per_second),
            line.seconds_left
                .map_or(String::new(), |left| format!(", {left} s left"))
        ),
    };
    // Whoever does not read it misses nothing that counts.
    let _ = told;
}
