//! A QEMU while it runs: what it says, and what its guest asks the host for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::command::{run, sha256};
use crate::media::{Bus, Medium};
use crate::qemu::{Machine, Outcome};
use crate::qmp::Qmp;

/// Follows a run.
pub(crate) struct Watch {
    /// Of media that are to stay as they are, by their numbers.
    sums: BTreeMap<usize, String>,
    monitor: PathBuf,
    report: File,
    pending: String,
    init: Option<Instant>,
    plugged: usize,
}

impl Watch {
    /// Of a QEMU with this monitor, whose guest's report comes here.
    pub(crate) fn new(monitor: PathBuf, report: File) -> Self {
        Self {
            sums: BTreeMap::new(),
            monitor,
            report,
            pending: String::new(),
            init: None,
            plugged: 0,
        }
    }

    /// To its end, to the moment at which its power is cut, or to `deadline`; `log` gets all that is said.
    pub(crate) fn follow(
        mut self,
        machine: &Machine,
        lines: &Receiver<String>,
        mut log: File,
        deadline: Duration,
    ) -> Result<Outcome> {
        let start = Instant::now();
        let mut outcome = Outcome::default();
        let mut cut_at = None;
        loop {
            match lines.recv_timeout(Duration::from_millis(20)) {
                Ok(line) => {
                    writeln!(log, "{:6.1} {line}", start.elapsed().as_secs_f32())?;
                    if line.contains("Run /init as init process") {
                        self.init = Some(Instant::now());
                    }
                    if let Some(cut) = machine.cut.filter(|cut| line.contains(cut.text)) {
                        cut_at.get_or_insert(Instant::now() + cut.after);
                    }
                    // Nothing comes after that, and QEMU stays.
                    let is_halted = line.contains("reboot: System halted");
                    outcome.console.push(line);
                    if is_halted {
                        break;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let from = outcome.report.len();
            self.read_report(&mut outcome, &mut log)?;
            for line in outcome.report.iter().skip(from) {
                self.obey(machine, line)?;
            }
            self.plug(&machine.media)?;
            if cut_at.is_some_and(|at| at <= Instant::now()) {
                outcome.is_cut = true;
                break;
            }
            if start.elapsed() > deadline {
                outcome.stuck = Some(format!("still running after {} s", deadline.as_secs()));
                break;
            }
        }
        self.read_report(&mut outcome, &mut log)?;
        Ok(outcome)
    }

    fn read_report(&mut self, outcome: &mut Outcome, log: &mut File) -> Result<()> {
        let mut bytes = Vec::new();
        self.report.read_to_end(&mut bytes)?;
        self.pending.push_str(&String::from_utf8_lossy(&bytes));
        while let Some((line, rest)) = self.pending.split_once('\n') {
            let line = line.trim_end().to_owned();
            writeln!(log, "report {line}")?;
            outcome.report.push(line);
            self.pending = rest.to_owned();
        }
        Ok(())
    }

    /// Does what a line of the report asks for, if it does: a stick pulled or put in, by its number, one made a copy of
    /// another, or looked at whether it is as it was the last time; or what the network does.
    fn obey(&mut self, machine: &Machine, line: &str) -> Result<()> {
        let Some(order) = line.strip_prefix("COWROOT-HOST ") else {
            return Ok(());
        };
        let file = |number: &str| -> Result<&Path> {
            let medium = machine.media.get(number.parse::<usize>()?);
            Ok(&medium.context("there is no such medium")?.1)
        };
        if let Some((from, to)) = order.strip_prefix("copy ").and_then(|o| o.split_once(' ')) {
            let paths = [file(from)?.as_os_str(), file(to)?.as_os_str()];
            return run("cp", ["--sparse=always".as_ref()].into_iter().chain(paths)).map(drop);
        }
        if let Some(number) = order.strip_prefix("sum ") {
            let sum = sha256(file(number)?)?;
            let before = self.sums.insert(number.parse()?, sum.clone());
            if before.is_some_and(|before| before != sum) {
                bail!("medium {number} was written: its sha256 changed");
            }
            return Ok(());
        }
        if let Some(number) = order.strip_prefix("pull ") {
            let device = json!({"id": format!("s{number}")});
            return Qmp::connect(&self.monitor)?
                .call("device_del", &device)
                .map(drop);
        }
        if let Some(number) = order.strip_prefix("put ") {
            return put(&self.monitor, number.parse()?);
        }
        if let Some(number) = order.strip_prefix("eject ") {
            let drive = json!({"id": drive(machine, number)?, "force": true});
            return Qmp::connect(&self.monitor)?.call("eject", &drive).map(drop);
        }
        if let Some(number) = order.strip_prefix("insert ") {
            let id = drive(machine, number)?;
            let mut qmp = Qmp::connect(&self.monitor)?;
            let medium = json!({"id": id, "node-name": format!("m{number}")});
            qmp.call("blockdev-insert-medium", &medium)?;
            return qmp
                .call("blockdev-close-tray", &json!({"id": id}))
                .map(drop);
        }
        match &machine.network {
            Some(network) => network.obey(order),
            None => bail!("the guest asks for '{order}', and has no network"),
        }
    }

    /// Plugs in the media whose time has come.
    fn plug(&mut self, media: &[(Medium, PathBuf)]) -> Result<()> {
        let Some(init) = self.init else { return Ok(()) };
        let late = media.iter().enumerate().skip(self.plugged);
        for (number, (medium, _)) in late {
            if let Bus::UsbLate(after) = medium.bus {
                if init.elapsed() < Duration::from_secs(after) {
                    return Ok(());
                }
                put(&self.monitor, number)?;
            }
            self.plugged = number + 1;
        }
        Ok(())
    }
}

/// QEMU's name of the drive that the medium with this number is in: that of a stick, or of a reader, is its child.
fn drive(machine: &Machine, number: &str) -> Result<String> {
    let medium = machine.media.get(number.parse::<usize>()?);
    let (medium, _) = medium.context("there is no such medium")?;
    Ok(match medium.bus {
        Bus::Cd => format!("s{number}"),
        _ => format!("/machine/peripheral/s{number}/s{number}.0/legacy[0]"),
    })
}

/// Puts the stick with this number in; one that was pulled out a moment ago may still be on its way.
fn put(monitor: &Path, number: usize) -> Result<()> {
    let device = json!({
        "driver": "usb-storage",
        "id": format!("s{number}"),
        "drive": format!("m{number}"),
        "bus": "usb.0",
        "removable": true,
    });
    let mut qmp = Qmp::connect(monitor)?;
    let mut tries = 0;
    loop {
        match qmp.call("device_add", &device) {
            Err(_) if tries < 50 => thread::sleep(Duration::from_millis(100)),
            result => return result.map(drop),
        }
        tries += 1;
    }
}
