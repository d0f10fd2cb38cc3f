//! The stick's tables: seconds beside dm-snapshot's of the same round, and what reached the medium.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;

use super::counts::{Counts, Of};
use super::figures::spread;
use super::told::{self, Told};

const CONTENDERS: [&str; 3] = ["snapshot-P", "cowroot", "cowroot-vfat"];

/// What the guest saw of a job.
#[derive(Debug, Clone, Copy)]
struct Figure {
    seconds: f64,
    /// What it wrote, in pages of 4 KiB.
    pages: f64,
    /// Its flushes. The kernel counts none of a device-mapper device.
    flushes: f64,
}

/// Everything one run told.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// In the order they came.
    jobs: Vec<(String, String)>,
    /// By stick.
    figures: BTreeMap<(String, Of), Figure>,
    counts: BTreeMap<(String, Of), Counts>,
    pub(super) told: Told,
}

impl Table {
    /// Reads what the guest reported.
    pub(super) fn read(report: &[String]) -> Result<Self> {
        let mut all = Self::default();
        let told = Told::read(report, "BENCH-STICK ", &mut |line, _| all.add(line))?;
        all.told = told;
        Ok(all)
    }

    fn add(&mut self, line: &told::Figure) -> Result<()> {
        let (stick, job) = (line.text("stick")?, line.text("job")?);
        let figure = Figure {
            seconds: line.number("seconds")?,
            pages: line.number("pages")?,
            flushes: line.number("flushes")?,
        };
        if !self.jobs.contains(&(stick.clone(), job.clone())) {
            self.jobs.push((stick.clone(), job.clone()));
        }
        let of = (line.text("contender")?, line.round()?, job);
        self.figures.insert((stick, of), figure);
        Ok(())
    }

    /// What reached the medium.
    pub(super) fn count(&mut self, stick: &str, of: Of, counts: Counts) {
        self.counts.insert((stick.to_owned(), of), counts);
    }

    pub(super) fn markdown(&self) -> String {
        let mut out = self.told.markdown();
        for stick in ["slow", "none"] {
            self.times(&mut out, stick);
            self.traffic(&mut out, stick);
        }
        out
    }

    fn jobs<'a>(&'a self, stick: &'a str) -> impl Iterator<Item = &'a str> {
        let of_stick = self.jobs.iter().filter(move |(of, _)| of == stick);
        of_stick.map(|(_, job)| job.as_str())
    }

    fn times(&self, out: &mut String, stick: &str) {
        let _ = writeln!(
            out,
            "\n| delay: {stick}; time | dm P | cowroot | cowroot on vfat |\n|---|---|---|---|"
        );
        for job in self.jobs(stick) {
            let dm = self.of(stick, job, "snapshot-P", |f, _| Some(f.seconds));
            let dm = spread(dm).map_or_else(|| "–".to_owned(), |(s, _, _)| format!("{s:.2} s"));
            let ratio = |who: &str| {
                let ratios = self.figures.iter().filter_map(|((at, of), ours)| {
                    let (contender, round, name) = of;
                    let wanted = at == stick && contender == who && name == job;
                    let by = ("snapshot-P".to_owned(), *round, name.clone());
                    let theirs = wanted.then(|| self.figures.get(&(at.clone(), by)))??;
                    Some(theirs.seconds / ours.seconds)
                });
                match spread(ratios.collect()) {
                    Some((median, least, most)) => format!("{median:.2} ({least:.2}–{most:.2})"),
                    None => "–".to_owned(),
                }
            };
            let (ours, vfat) = (ratio("cowroot"), ratio("cowroot-vfat"));
            let _ = writeln!(out, "| {job} | {dm} | {ours} | {vfat} |");
        }
    }

    /// Medians of the rounds.
    fn traffic(&self, out: &mut String, stick: &str) {
        let _ = writeln!(
            out,
            "\n| delay: {stick}; medium | | pages written | flushes asked | bytes per byte | of these zeros | writes | \
             flushes | zones | regions |\n|---|---|---|---|---|---|---|---|---|---|"
        );
        for job in self.jobs(stick) {
            for who in CONTENDERS {
                let median = |value: &dyn Fn(&Figure, &Counts) -> f64| {
                    let values = self.of(stick, job, who, |f, c| c.map(|c| value(f, c)));
                    spread(values).map(|(median, _, _)| median)
                };
                // For a thousand pages that the guest wrote.
                let per = |value: &dyn Fn(&Counts) -> u64| {
                    median(&|f, c| count(value(c)) * 1000.0 / f.pages.max(1.0)).map_or_else(
                        || "–".to_owned(),
                        |v| match v < 10.0 {
                            true => format!("{v:.1}"),
                            false => format!("{v:.0}"),
                        },
                    )
                };
                let (Some(pages), Some(asked)) =
                    (median(&|f, _| f.pages), median(&|f, _| f.flushes))
                else {
                    continue;
                };
                let bytes = |value: &dyn Fn(&Counts) -> u64| {
                    median(&|f, c| count(value(c)) / (4096.0 * f.pages.max(1.0)))
                        .unwrap_or_default()
                };
                let asked = match who {
                    "snapshot-P" => "–".to_owned(),
                    _ => format!("{asked:.0}"),
                };
                let _ = writeln!(
                    out,
                    "| {job} | {who} | {pages:.0} | {asked} | {:.3} | {:.3} | {} | {} | {} | {} |",
                    bytes(&|c| c.bytes),
                    bytes(&|c| c.zero_bytes),
                    per(&|c| c.writes),
                    per(&|c| c.flushes),
                    per(&|c| c.zones),
                    per(&|c| c.regions),
                );
            }
        }
    }

    /// A value of each round.
    fn of(
        &self,
        stick: &str,
        job: &str,
        who: &str,
        value: impl Fn(&Figure, Option<&Counts>) -> Option<f64>,
    ) -> Vec<f64> {
        let figures = self
            .figures
            .iter()
            .filter(|((at, (contender, _, name)), _)| {
                at == stick && contender == who && name == job
            });
        figures
            .filter_map(|(of, figure)| value(figure, self.counts.get(of)))
            .collect()
    }
}

/// Counts are far below where a double is not exact.
fn count(of: u64) -> f64 {
    of as f64
}
