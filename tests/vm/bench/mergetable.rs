//! The merges' tables: seconds beside those of the same round, and what was written, read and flushed.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;

use super::figures::spread;
use super::told::{self, Told};

const CONTENDERS: [&str; 3] = ["cowroot", "snapshot-merge", "qemu-img"];

/// Stick, job and contender.
type Of = (String, String, String);

/// What one merge took.
#[derive(Debug, Clone, Copy)]
struct Figure {
    seconds: f64,
    /// Bytes that the changes are.
    changed: f64,
    /// Bytes written to the base, and read of it.
    base_written: f64,
    base_read: f64,
    /// Of the stick, the base's included.
    written: f64,
    read: f64,
    writes: f64,
    flushes: f64,
}

/// Everything one run told.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// In the order they came.
    jobs: Vec<(String, String)>,
    /// By round.
    figures: BTreeMap<Of, BTreeMap<u64, Figure>>,
    pub(super) told: Told,
}

impl Table {
    /// Reads what the guest reported.
    pub(super) fn read(report: &[String]) -> Result<Self> {
        let mut all = Self::default();
        let told = Told::read(report, "BENCH-MERGE ", &mut |line, _| all.add(line))?;
        all.told = told;
        Ok(all)
    }

    fn add(&mut self, line: &told::Figure) -> Result<()> {
        let figure = Figure {
            seconds: line.number("seconds")?,
            changed: line.number("changed")?,
            base_written: line.number("base_written")?,
            base_read: line.number("base_read")?,
            written: line.number("written")?,
            read: line.number("read")?,
            writes: line.number("writes")?,
            flushes: line.number("flushes")?,
        };
        let (stick, job) = (line.text("stick")?, line.text("job")?);
        if !self.jobs.contains(&(stick.clone(), job.clone())) {
            self.jobs.push((stick.clone(), job.clone()));
        }
        let of = (stick, job, line.text("contender")?);
        self.figures
            .entry(of)
            .or_default()
            .insert(line.round()?, figure);
        Ok(())
    }

    pub(super) fn markdown(&self) -> String {
        let mut out = self.told.markdown();
        let _ = writeln!(
            out,
            "\n| delay | changes | | time | cowroot is faster | base written | base read | stick written | stick read | \
             writes | flushes |\n|---|---|---|---|---|---|---|---|---|---|---|"
        );
        for (stick, job) in &self.jobs {
            for who in CONTENDERS {
                let of = (stick.clone(), job.clone(), who.to_owned());
                if let Some(rounds) = self.figures.get(&of) {
                    self.row(&mut out, &of, rounds);
                }
            }
        }
        out
    }

    fn row(&self, out: &mut String, of: &Of, rounds: &BTreeMap<u64, Figure>) {
        let (stick, job, who) = of;
        let median = |value: &dyn Fn(&Figure) -> f64| {
            let values = rounds.values().map(value).collect();
            spread(values).map_or(0.0, |(median, _, _)| median)
        };
        let per_byte = |value: &dyn Fn(&Figure) -> f64| median(&|f| value(f) / f.changed);
        let faster = match who.as_str() {
            "cowroot" => "–".to_owned(),
            _ => self.faster(of, rounds),
        };
        let _ = writeln!(
            out,
            "| {stick} | {job} | {who} | {:.1} s | {faster} | {:.4} | {:.2} | {:.3} | {:.2} | {:.0} | {:.0} |",
            median(&|f| f.seconds),
            per_byte(&|f| f.base_written),
            per_byte(&|f| f.base_read),
            per_byte(&|f| f.written),
            per_byte(&|f| f.read),
            median(&|f| f.writes),
            median(&|f| f.flushes),
        );
    }

    /// How much faster cowroot was in the same rounds.
    fn faster(&self, (stick, job, _): &Of, rounds: &BTreeMap<u64, Figure>) -> String {
        let ours = (stick.clone(), job.clone(), "cowroot".to_owned());
        let ours = self.figures.get(&ours);
        let ratios = rounds
            .iter()
            .filter_map(|(round, theirs)| Some(theirs.seconds / ours?.get(round)?.seconds));
        match spread(ratios.collect()) {
            Some((median, least, most)) => format!("{median:.2} ({least:.2}–{most:.2})"),
            None => "–".to_owned(),
        }
    }
}
