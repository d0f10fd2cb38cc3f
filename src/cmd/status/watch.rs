//! `cowroot status --watch`: the same again and again, until ctrl-C or until there is nothing left to watch.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;

use super::{Document, Report, describe, served, used};
use crate::cmd::interrupts::Interrupts;

/// How long each state is shown.
const PERIOD: Duration = Duration::from_secs(1);
/// To the terminal's first line and column, and all behind it cleared (console_codes(4)).
const AGAIN: &str = "\x1b[H\x1b[J";
const NONE: &str = "cowroot serves no device";

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A document a line.
    Json,
    /// All of it, in place of what was there.
    Screen,
    /// A line for each change.
    Changes,
}

/// Show it until this is to end.
///
/// # Errors
/// What it is shown on does not take it.
pub(super) fn watch(json: bool) -> anyhow::Result<()> {
    let interrupts = Interrupts::listen()?;
    let form = match (json, io::stdout().is_terminal()) {
        (true, _) => Form::Json,
        (false, true) => Form::Screen,
        (false, false) => Form::Changes,
    };
    let mut known = Known::default();
    loop {
        let (devices, silent) = served();
        let is_over = devices.is_empty() && silent.is_empty();
        let text = match form {
            Form::Json => format!(
                "{}\n",
                serde_json::to_string(&Document::of(devices)).context("writing JSON")?
            ),
            Form::Screen => screen(&devices, &silent),
            Form::Changes => known.changes(&devices, &silent),
        };
        match show(&text) {
            // Whoever read it has gone.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            shown => shown.context("showing the status")?,
        }
        if is_over {
            eprintln!("{NONE}");
            return Ok(());
        }
        if interrupts.wait(Some(PERIOD))? {
            return Ok(());
        }
    }
}

fn show(text: &str) -> io::Result<()> {
    let mut to = io::stdout().lock();
    to.write_all(text.as_bytes())?;
    to.flush()
}

fn screen(devices: &[Report], silent: &[String]) -> String {
    let mut text = String::from(AGAIN);
    let devices: Vec<String> = devices.iter().map(describe).collect();
    text.push_str(&devices.join("\n"));
    for reason in silent {
        text.push_str(&format!("{reason}\n"));
    }
    text
}

/// What was said last.
#[derive(Debug, Default)]
struct Known {
    lines: BTreeMap<String, String>,
}

impl Known {
    /// A line for each device that is not as it was.
    fn changes(&mut self, devices: &[Report], silent: &[String]) -> String {
        let told = devices
            .iter()
            .map(|report| (report.device.clone(), line(report)));
        let silent = silent
            .iter()
            .map(|reason| (reason.clone(), format!("{reason}\n")));
        let now: BTreeMap<String, String> = told.chain(silent).collect();
        let mut text = String::new();
        for name in self.lines.keys().filter(|&name| !now.contains_key(name)) {
            // What is not served has gone; a daemon that answers again says so itself.
            if name.starts_with('/') {
                text.push_str(&format!("{name}: gone\n"));
            }
        }
        for (name, line) in &now {
            if self.lines.get(name) != Some(line) {
                text.push_str(line);
            }
        }
        self.lines = now;
        text
    }
}

/// A device in one line.
fn line(report: &Report) -> String {
    let mut line = format!(
        "{}: {}, {}",
        report.device,
        used(&report.cow),
        report.health
    );
    for warning in &report.warnings {
        line.push_str(&format!("; {warning}"));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::protocol::{CowReport, Recovery};

    fn report(used_bytes: u64, warnings: &[&str]) -> Report {
        Report {
            id: 0,
            device: "/dev/ublkb0".into(),
            pid: 1,
            version: "0".into(),
            base: "/b".into(),
            base_bytes: 1,
            size_bytes: 512,
            read_only: false,
            cow: CowReport {
                used_bytes,
                capacity_bytes: 100 << 20,
                ..CowReport::default()
            },
            requests: used_bytes,
            failed_requests: 0,
            in_flight: 0,
            depth: 63,
            locked_bytes: 0,
            recovery: Recovery::default(),
            health: if warnings.is_empty() {
                "ok"
            } else {
                "attention"
            }
            .into(),
            warnings: warnings.iter().map(|&warning| warning.into()).collect(),
        }
    }

    #[test]
    fn a_line_is_for_a_change() {
        let mut known = Known::default();
        let mut changes = |devices: &[Report], silent: &[String]| known.changes(devices, silent);
        let first = "/dev/ublkb0: 1 MiB of 100 MiB used (1 %), ok\n";
        assert_eq!(changes(&[report(1 << 20, &[])], &[]), first);
        // A byte more is not seen.
        assert_eq!(changes(&[report((1 << 20) + 1, &[])], &[]), "");
        let full = changes(&[report(90 << 20, &["it is 90 % full"])], &[]);
        assert_eq!(
            full,
            "/dev/ublkb0: 90 MiB of 100 MiB used (90 %), attention; it is 90 % full\n"
        );
        assert_eq!(changes(&[report(1 << 20, &[])], &[]), first);
        assert_eq!(
            changes(&[], &["no answer".into()]),
            "/dev/ublkb0: gone\nno answer\n"
        );
        assert_eq!(changes(&[report(1 << 20, &[])], &[]), first);
        assert_eq!(changes(&[], &[]), "/dev/ublkb0: gone\n");
    }
}
