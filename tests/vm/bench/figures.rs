//! What the bench's guest reported, and the tables made of it. Rounds are compared with themselves: a ratio
//! is made within a round, and what is shown is the median of the rounds' ratios with the least and the
//! greatest.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;

use super::told::{self, Told};

/// One figure of one contender's job in one round.
#[derive(Debug, Clone, Copy)]
struct Figure {
    value: f64,
    /// Time: less is better.
    less_is_better: bool,
    /// CPU time of the serving process for one request, if there is such a process.
    daemon_us: Option<f64>,
}

/// Everything one run told.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Jobs in the order they came, and whether they are fio's.
    jobs: Vec<(String, bool)>,
    /// By job, contender and round.
    figures: BTreeMap<(String, String, u64), Figure>,
    boots: Vec<f64>,
    pub(super) told: Told,
}

/// A column: whose figures are divided by whose.
type Column = (&'static str, &'static str, &'static str);

const RAW: [Column; 8] = [
    ("cowroot", "cowroot", "snapshot-N"),
    ("cowroot ÷ PO", "cowroot", "snapshot-PO"),
    ("without spin", "cowroot-nospin", "snapshot-N"),
    ("dm PO", "snapshot-PO", "snapshot-N"),
    ("overlayfs", "overlayfs", "snapshot-N"),
    ("loop", "loop", "snapshot-N"),
    ("ublk loop", "ublk-loop", "snapshot-N"),
    ("ublk null", "ublk-null", "snapshot-N"),
];

const WORK: [Column; 5] = [
    ("cowroot", "cowroot", "snapshot-N"),
    ("cowroot ÷ PO", "cowroot", "snapshot-PO"),
    ("dm PO", "snapshot-PO", "snapshot-N"),
    ("overlayfs", "overlayfs", "snapshot-N"),
    ("loop", "loop", "snapshot-N"),
];

impl Figures {
    /// Reads what the guest reported.
    pub(super) fn read(report: &[String]) -> Result<Self> {
        let mut all = Self::default();
        let told = Told::read(report, "BENCH ", &mut |line, told| all.add(line, told))?;
        all.told = told;
        Ok(all)
    }

    fn add(&mut self, line: &told::Figure, told: &mut Told) -> Result<()> {
        let number = |name| line.number(name).ok();
        let job = line.text("job")?;
        let contender = line.text("contender")?;
        let round = line.round()?;
        let (value, less_is_better) = match (number("seconds"), number("per_s")) {
            (Some(seconds), _) => (seconds, true),
            (None, Some(_)) if job.contains("depth 1,") || job.ends_with("depth 1") => {
                (line.number("p50_ns")? / 1000.0, true)
            }
            (None, Some(per_s)) => (per_s, false),
            // Not a speed: said in words.
            (None, None) => {
                if let Some(kib) = number("kib") {
                    told.note(format!(
                        "{job}, {contender}, round {}: {kib} KiB",
                        round + 1
                    ));
                } else {
                    let us = number("daemon_us").unwrap_or_default();
                    told.note(format!("{job}, {contender}: {us} µs of CPU"));
                }
                return Ok(());
            }
        };
        let requests = number("requests").unwrap_or(1.0).max(1.0);
        let figure = Figure {
            value,
            less_is_better,
            daemon_us: number("daemon_us").map(|us| us / requests),
        };
        if !self.jobs.iter().any(|(known, _)| *known == job) {
            self.jobs.push((job.clone(), number("per_s").is_some()));
        }
        self.figures.insert((job, contender, round), figure);
        Ok(())
    }

    /// Seconds from the start of cowroot as init to its end.
    pub(super) fn boot(&mut self, seconds: f64) {
        self.boots.push(seconds);
    }

    pub(super) fn markdown(&self) -> String {
        let mut out = self.told.markdown();
        let boots: Vec<String> = self.boots.iter().map(|s| format!("{s:.2}")).collect();
        let _ = writeln!(
            out,
            "- seconds as init of a boot to multi-user: {}",
            boots.join(", ")
        );
        self.table(&mut out, "raw", true, &RAW);
        self.table(&mut out, "work", false, &WORK);
        self.cpu_table(&mut out);
        out
    }

    fn table(&self, out: &mut String, title: &str, raw: bool, columns: &[Column]) {
        let names: Vec<&str> = columns.iter().map(|(name, _, _)| *name).collect();
        let _ = writeln!(out, "\n| {title} | dm N | {} |", names.join(" | "));
        let _ = writeln!(out, "|---|---|{}", "---|".repeat(columns.len()));
        for (job, _) in self.jobs.iter().filter(|(_, of_fio)| *of_fio == raw) {
            let cells: Vec<String> = columns.iter().map(|c| self.ratio(job, c)).collect();
            let _ = writeln!(
                out,
                "| {job} | {} | {} |",
                self.absolute(job, "snapshot-N"),
                cells.join(" | ")
            );
        }
    }

    /// CPU time of the serving process for a request (fio) or for the whole step (work).
    fn cpu_table(&self, out: &mut String) {
        let contenders = ["cowroot", "cowroot-nospin", "ublk-loop", "ublk-null"];
        let _ = writeln!(
            out,
            "\n| CPU time of the daemon | {} |",
            contenders.join(" | ")
        );
        let _ = writeln!(out, "|---|{}", "---|".repeat(contenders.len()));
        for (job, of_fio) in &self.jobs {
            let cells = contenders.map(|contender| {
                let used = self.of(job, contender).filter_map(|(_, f)| f.daemon_us);
                match (spread(used.collect()), of_fio) {
                    (Some((us, _, _)), true) => format!("{us:.0} µs a request"),
                    (Some((us, _, _)), false) => format!("{:.2} s", us / 1e6),
                    (None, _) => "–".to_owned(),
                }
            });
            let _ = writeln!(out, "| {job} | {} |", cells.join(" | "));
        }
    }

    fn of(&self, job: &str, contender: &str) -> impl Iterator<Item = (u64, Figure)> {
        self.figures
            .iter()
            .filter(move |((j, c, _), _)| j == job && c == contender)
            .map(|((_, _, round), figure)| (*round, *figure))
    }

    fn absolute(&self, job: &str, contender: &str) -> String {
        let less = self.of(job, contender).any(|(_, f)| f.less_is_better);
        let of_fio = self.jobs.iter().any(|(known, fio)| known == job && *fio);
        let values = self.of(job, contender).map(|(_, f)| f.value).collect();
        match (spread(values), less, of_fio) {
            (Some((us, _, _)), true, true) => format!("{us:.0} µs"),
            (Some((seconds, _, _)), true, false) => format!("{seconds:.2} s"),
            (Some((per_s, _, _)), _, _) if job.contains("128k") => {
                format!("{:.0} MB/s", per_s * 0.131)
            }
            (Some((per_s, _, _)), _, _) => format!("{per_s:.0} /s"),
            (None, _, _) => "–".to_owned(),
        }
    }

    fn ratio(&self, job: &str, (_, whose, by): &Column) -> String {
        let ratios = self.of(job, whose).filter_map(|(round, ours)| {
            let theirs = self
                .figures
                .get(&(job.to_owned(), (*by).to_owned(), round))?;
            let more = ours.value / theirs.value;
            Some(if ours.less_is_better {
                1.0 / more
            } else {
                more
            })
        });
        match spread(ratios.collect()) {
            Some((median, least, most)) => format!("{median:.2} ({least:.2}–{most:.2})"),
            None => "–".to_owned(),
        }
    }
}

/// Median, least and greatest.
pub(super) fn spread(mut values: Vec<f64>) -> Option<(f64, f64, f64)> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let median = match values.get(middle.wrapping_sub(1)) {
        Some(lower) if values.len().is_multiple_of(2) => f64::midpoint(*lower, upper),
        _ => upper,
    };
    Some((median, *values.first()?, *values.last()?))
}
