//! What a bench's guest told beside its figures, and what is said above their tables.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

/// Everything but the figures.
#[derive(Debug, Default)]
pub(super) struct Told {
    notes: Vec<String>,
    trouble: Vec<String>,
    finished: bool,
}

impl Told {
    /// Reads what the guest reported; a line that begins with `figures` has one as JSON, which `add` takes.
    pub(super) fn read(
        report: &[String],
        figures: &str,
        add: &mut dyn FnMut(&Figure, &mut Self) -> Result<()>,
    ) -> Result<Self> {
        let mut all = Self::default();
        for line in report {
            if let Some(json) = line.strip_prefix(figures) {
                let figure = serde_json::from_str(json).map_err(anyhow::Error::from);
                figure
                    .and_then(|figure| add(&Figure(figure), &mut all))
                    .with_context(|| format!("reading '{json}'"))?;
            } else if let Some(trouble) = line.strip_prefix("BENCH-TROUBLE ") {
                all.trouble.push(trouble.to_owned());
            } else if let Some(machine) = line.strip_prefix("BENCH-MACHINE ") {
                all.note(format!("guest: {machine}"));
            } else if line == "COWROOT-TEST finished" {
                all.finished = true;
            } else if line.contains(" FAILED ") {
                all.trouble.push(line.clone());
            }
        }
        Ok(all)
    }

    /// Says something above the tables.
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Whether all was measured.
    pub(super) fn whole(&self) -> bool {
        self.finished && self.trouble.is_empty()
    }

    /// What is said above the tables.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::new();
        for line in &self.notes {
            let _ = writeln!(out, "- {line}");
        }
        for trouble in &self.trouble {
            let _ = writeln!(out, "- NOT MEASURED: {trouble}");
        }
        out
    }
}

/// What was measured once.
#[derive(Debug)]
pub(super) struct Figure(Value);

impl Figure {
    pub(super) fn text(&self, name: &'static str) -> Result<String> {
        let text = self.0.get(name).and_then(Value::as_str);
        text.map(str::to_owned).context(name)
    }

    pub(super) fn number(&self, name: &'static str) -> Result<f64> {
        self.0.get(name).and_then(Value::as_f64).context(name)
    }

    pub(super) fn round(&self) -> Result<u64> {
        self.0.get("round").and_then(Value::as_u64).context("round")
    }
}
