//! `cowroot status`: the devices of this machine, as text or JSON.

use std::fmt::Write;

use anyhow::{Context, bail};

use crate::cli::Status;
use crate::daemon::protocol::{Answer, Question, Report, ask};
use crate::media::text;
use crate::ublk::devices::device_ids;

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Document {
    /// Version of the binary that printed it.
    version: &'static str,
    devices: Vec<Report>,
}

/// Print the state of every device that cowroot serves.
///
/// # Errors
/// If a daemon does not answer.
pub fn run(status: &Status) -> anyhow::Result<()> {
    super::require_root("asking for the status")?;
    let (mut devices, mut silent) = (Vec::new(), Vec::new());
    for id in device_ids() {
        match ask(id, &Question::Status) {
            Ok(Some(Answer::Status(report))) => devices.push(report),
            Ok(_) => {}
            // One bad daemon must not hide the others.
            Err(error) => silent.push(format!("{error:#}")),
        }
    }
    if status.json {
        let document = Document {
            version: env!("CARGO_PKG_VERSION"),
            devices,
        };
        println!(
            "{}",
            serde_json::to_string_pretty(&document).context("writing JSON")?
        );
    } else if devices.is_empty() {
        println!("cowroot serves no device");
    } else {
        let texts: Vec<String> = devices.iter().map(describe).collect();
        print!("{}", texts.join("\n"));
    }
    if !silent.is_empty() {
        bail!("{}", silent.join("\n"));
    }
    Ok(())
}

/// A device for people.
fn describe(report: &Report) -> String {
    let cow = &report.cow;
    let share = (cow.used_bytes * 100)
        .checked_div(cow.capacity_bytes)
        .unwrap_or_default();
    let mut lines = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(lines, "  {name:<8} {value}");
    };
    let access = if report.read_only {
        "read-only"
    } else {
        "writable"
    };
    line(
        "base",
        format!("{} ({})", report.base, text::size(report.base_bytes)),
    );
    line(
        "device",
        format!("{}, {access}", text::size(report.size_bytes)),
    );
    line(
        "cowfile",
        format!(
            "{}: {} of {} used ({share} %); gone at power-off",
            cow.store,
            text::size(cow.used_bytes),
            text::size(cow.capacity_bytes)
        ),
    );
    line(
        "daemon",
        format!(
            "pid {}, version {}, {} requests",
            report.pid, report.version, report.requests
        ),
    );
    for warning in &report.warnings {
        line("warning", warning.clone());
    }
    format!("{}\n{lines}", report.device)
}
