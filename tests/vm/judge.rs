//! Whether what a case's boots left behind bears out its claim.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::case::{Case, Ending};
use crate::initramfs::Initramfs;
use crate::media::{Content, Fs, Medium};
use crate::qemu::Outcome;

/// A good boot says at most this much: what a person wants to know.
const MOST_LINES: usize = 8;

/// What the kernel says when init dies or there is none.
const PANIC: &str = "Kernel panic - not syncing";

/// How the lines begin in which the kernel says what is wrong and where.
const FAULTS: [&str; 13] = [
    PANIC,
    "BUG: ",
    "kernel BUG at ",
    "Oops: ",
    "watchdog: BUG: ",
    "refcount_t: ",
    "list_add corruption",
    "list_del corruption",
    "WARNING: ",
    "CPU: ",
    "RIP: ",
    "Workqueue: ",
    "Out of memory: ",
];

/// So many of the last lines tell why init died.
const LAST_SAID: usize = 4;

/// How much of the console a failure shows; the log has all of it.
const LAST_LINES: usize = 30;

/// Whether sticks of a machine that was shut down are as they should be when they are taken out.
pub(crate) fn left_well(case: &Case, media: &[(Medium, PathBuf)]) -> Result<()> {
    for (medium, file) in media {
        match medium.content {
            Content::Pocket(fs) if case.words.contains("leave=shutdown") => {
                fs.check(file).context("a stick that was let go of")?;
            }
            Content::PocketToMerge(fs) => {
                let base = tempfile::NamedTempFile::new()?;
                fs.extract(file, "live/root.img", base.path())?;
                Fs::Ext4
                    .check(base.path())
                    .context("the base that was merged into")?;
            }
            Content::Stick(stick) if case.words.contains("leave=shutdown") => {
                stick.check(file).context("a stick that was let go of")?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Does the outcome bear out the case's claim?
pub(crate) fn judge(case: &Case, words: &str, outcome: &Outcome) -> Result<()> {
    let reported = |text: &str| outcome.report.iter().any(|l| l.contains(text));
    let failed: Vec<&str> = outcome
        .report
        .iter()
        .map(String::as_str)
        .filter(|l| l.contains(" FAILED"))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    if let Some(stuck) = &outcome.stuck {
        bail!("{stuck}");
    }
    let shown = |text: &str| outcome.console.iter().any(|l| l.contains(text));
    let panicked = shown(PANIC);
    match case.ending {
        Ending::Panic => ensure!(panicked, "the boot did not end in a panic"),
        Ending::Restart => {
            ensure!(!panicked, "{}", why_panicked(&outcome.console));
            ensure!(
                outcome.report.is_empty(),
                "a root has started: {:?}",
                outcome.report
            );
        }
        Ending::PowerOff => {
            ensure!(!panicked, "{}", why_panicked(&outcome.console));
            ensure!(
                reported("COWROOT-TEST finished"),
                "the guest's check did not reach its end"
            );
        }
    }
    for text in case.console.iter().copied().chain(ends_with(words)) {
        ensure!(shown(text), "the console does not say '{text}'");
    }
    for text in &case.never {
        ensure!(!shown(text), "the console says '{text}'");
    }
    for line in &outcome.report {
        let status = line.strip_prefix("COWROOT-JSON ");
        if let Some((health, json)) = status.and_then(|s| s.split_once(' ')) {
            judge_status(json, health)?;
        }
    }
    // What it says later is not the boot's.
    let boot = outcome
        .console
        .iter()
        .take_while(|l| !l.contains("cowroot[1]: starting '"));
    let ours = boot.filter(|l| l.contains("cowroot[") || l.contains("cowroot:"));
    let quiet = !matches!(case.initramfs, Initramfs::Bare(_)) || ours.clone().count() <= MOST_LINES;
    ensure!(
        quiet,
        "more than {MOST_LINES} lines from cowroot:\n{}",
        ours.cloned().collect::<Vec<_>>().join("\n")
    );
    Ok(())
}

/// What the kernel says of the ways in which a guest is to end its machine, by `words`.
fn ends_with(words: &str) -> impl Iterator<Item = &'static str> {
    let verbs = words
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("verb=").or(word.strip_prefix("then=")));
    verbs.filter_map(|verb| match verb {
        "halt" => Some("reboot: System halted"),
        "kexec" => Some("kexec_core: Starting new kernel"),
        "poweroff" => Some("reboot: Power down"),
        "reboot" => Some("reboot: Restarting system"),
        _ => None,
    })
}

/// `cowroot status --json`, as scripts will rely on it, every device's health being `health`.
fn judge_status(json: &str, health: &str) -> Result<()> {
    let status: Value =
        serde_json::from_str(json).with_context(|| format!("parsing the status '{json}'"))?;
    ensure!(
        status.pointer("/version").is_some_and(Value::is_string),
        "status without a version: {json}"
    );
    let devices = status
        .pointer("/devices")
        .and_then(Value::as_array)
        .context("status without devices")?;
    for device in devices {
        for number in [
            "/id",
            "/pid",
            "/size_bytes",
            "/cow/capacity_bytes",
            "/cow/used_bytes",
            "/cow/map_bytes",
        ] {
            ensure!(
                device.pointer(number).is_some_and(Value::is_u64),
                "status without the number {number}: {json}"
            );
        }
        for text in ["/device", "/base", "/cow/store"] {
            ensure!(
                device.pointer(text).is_some_and(Value::is_string),
                "status without the text {text}: {json}"
            );
        }
        ensure!(
            device.pointer("/read_only").is_some_and(Value::is_boolean),
            "status without read_only: {json}"
        );
        ensure!(
            device.pointer("/health") == Some(&Value::from(health)),
            "a device's health is not '{health}': {json}"
        );
    }
    Ok(())
}

/// Why a kernel panicked that was not to, in one line: what it ended with, and before that, from there back, what it
/// found wrong and where, or else what init said last. It may be long until it happens again, and of a log elsewhere
/// this may be all that one sees.
fn why_panicked(console: &[String]) -> String {
    // Without the time that is before each.
    let said = to_panic(console)
        .iter()
        .rev()
        .map(|line| line.split_once("] ").map_or(&**line, |(_, text)| text));
    let is_fault = |line: &&str| FAULTS.iter().any(|fault| line.starts_with(fault));
    let mut faults: Vec<&str> = said.clone().filter(is_fault).collect();
    if faults.len() == 1 {
        faults = said.take(LAST_SAID).collect();
    }
    format!("the kernel panicked: {}", faults.join("; "))
}

/// The console up to a panic: the call trace behind it tells nothing. All of it, if there is none.
fn to_panic(console: &[String]) -> &[String] {
    let panic = console.iter().position(|line| line.contains(PANIC));
    let end = panic.map_or(console.len(), |line| line + 1);
    console.get(..end).unwrap_or_default()
}

/// The end of the console, or what led to a panic.
pub(crate) fn last_words(console: &[String]) -> &[String] {
    let said = to_panic(console);
    said.get(said.len().saturating_sub(LAST_LINES)..)
        .unwrap_or_default()
}
