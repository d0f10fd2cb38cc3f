//! `cowroot status`: the devices of this machine, as text or JSON.

mod watch;

use std::fmt::Write;

use anyhow::{Context, bail};

use crate::cli::Status;
use crate::daemon::protocol::{Answer, CowReport, Question, Recovery, Report, ask};
use crate::media::text;
use crate::sys;
use crate::ublk::devices::device_ids;

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Document {
    /// Version of the binary that printed it.
    version: &'static str,
    devices: Vec<Report>,
}

impl Document {
    fn of(devices: Vec<Report>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            devices,
        }
    }
}

/// Print the state of every device that cowroot serves.
///
/// # Errors
/// If a daemon does not answer.
pub fn run(status: &Status) -> anyhow::Result<()> {
    super::require_root("asking for the status")?;
    if status.watch {
        return watch::watch(status.json);
    }
    let (devices, silent) = served();
    if status.json {
        let document = Document::of(devices);
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

/// What each daemon says of its device, and what is wrong with those that do not answer.
fn served() -> (Vec<Report>, Vec<String>) {
    let (mut devices, mut silent) = (Vec::new(), Vec::new());
    for id in device_ids() {
        match ask(id, &Question::Status) {
            Ok(Some(Answer::Status(report))) => devices.push(*report),
            Ok(_) => {}
            // One bad daemon must not hide the others.
            Err(error) => silent.push(format!("{error:#}")),
        }
    }
    (devices, silent)
}

/// How much of its cowfile is used.
fn used(cow: &CowReport) -> String {
    let share = (cow.used_bytes * 100)
        .checked_div(cow.capacity_bytes)
        .unwrap_or_default();
    format!(
        "{} of {} used ({share} %)",
        text::size(cow.used_bytes),
        text::size(cow.capacity_bytes)
    )
}

/// A device for people.
fn describe(report: &Report) -> String {
    let cow = &report.cow;
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
    let fate = match cow.path {
        Some(_) => "kept",
        None => "gone at power-off",
    };
    line(
        "cowfile",
        format!(
            "{}: {}; {fate}",
            cow.path.as_ref().unwrap_or(&cow.store),
            used(cow)
        ),
    );
    if let Some(session) = &cow.session {
        let stays = match cow.path {
            Some(_) => "",
            None => ", below what is written, stays as it is",
        };
        line("session", format!("{session}{stays}"));
    }
    if cow.path.is_some() {
        line("commits", commits(cow));
    }
    line(
        "daemon",
        format!(
            "pid {}, version {}, {} requests, {} of {} under way, {} locked in RAM",
            report.pid,
            report.version,
            report.requests,
            report.in_flight,
            report.depth,
            text::size(report.locked_bytes)
        ),
    );
    line("recovery", recovery(&report.recovery));
    for warning in &report.warnings {
        line("warning", warning.clone());
    }
    format!("{}\n{lines}", report.device)
}

/// What happens when the daemon dies, and how often that was.
fn recovery(recovery: &Recovery) -> String {
    let now = match (recovery.possible, recovery.supervisor) {
        (true, Some(pid)) => format!("by pid {pid}"),
        _ => "not possible".to_owned(),
    };
    match (recovery.count, recovery.last_s) {
        (0, _) | (_, None) => format!("{now}; none yet"),
        (count, Some(last_s)) => format!(
            "{now}; {count} so far, the last {} s ago, after {} ms",
            ago_s(last_s),
            recovery.last_pause_ms
        ),
    }
}

/// Seconds since a time in seconds since 1970.
fn ago_s(then_s: u64) -> u64 {
    sys::now_s().saturating_sub(then_s)
}

/// How durable what was written is.
fn commits(cow: &CowReport) -> String {
    let when = match cow.durability.as_str() {
        "flush" => "with each flush".to_owned(),
        "shutdown" => "at detach".to_owned(),
        other => match other.strip_prefix("interval:") {
            Some(seconds) => format!("every {seconds} s"),
            None => other.to_owned(),
        },
    };
    let last = cow.last_commit_s;
    let last = last.map_or("none yet".to_owned(), |last_s| {
        format!("{} s ago", ago_s(last_s))
    });
    format!(
        "{when}; last {last}; {} not durable yet",
        text::size(cow.uncommitted_bytes)
    )
}
