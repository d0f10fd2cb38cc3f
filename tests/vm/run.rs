//! Runs one case and judges it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::accel::Accel;
use crate::apt::{Apt, SUITE};
use crate::cache::Cache;
use crate::case::{Case, Ending};
use crate::command::{run, sha256};
use crate::cut::Cut;
use crate::initramfs::{Initramfs, ensure_static};
use crate::kernel::Kernel;
use crate::loader::Loader;
use crate::media::{Bus, Content, Fs, Maker, Medium};
use crate::nfs::Network;
use crate::qemu::{Machine, Outcome};

/// A good boot says at most this much: what a person wants to know.
const MOST_LINES: usize = 8;

/// What the kernel says when init dies or there is none.
const PANIC: &str = "Kernel panic - not syncing";

/// How much of the console a failure shows; the log has all of it.
const LAST_LINES: usize = 30;

/// What all cases share: the binary under test, the kernel, the packages.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) cache: Cache,
    pub(crate) apt: Apt,
    /// By suite, each got with the first case that boots it.
    kernels: RefCell<BTreeMap<&'static str, Rc<Kernel>>>,
    pub(crate) binary: PathBuf,
    pub(crate) accel: Accel,
    /// Where logs and this run's copies of media go.
    pub(crate) runs: PathBuf,
}

impl Bed {
    /// Gets everything ready that does not depend on a case.
    pub(crate) fn open() -> Result<Self> {
        let binary = std::env::var_os("COWROOT_BIN").map(PathBuf::from);
        let binary = binary.context(
            "COWROOT_BIN does not name the binary to test; `make vm` builds it and does",
        )?;
        ensure!(
            binary.is_file(),
            "COWROOT_BIN: no file '{}'; `make build` makes it",
            binary.display()
        );
        ensure_static(&binary, "`make build` makes a static one")?;
        let cache = Cache::open()?;
        let apt = Apt::open(&cache, SUITE)?;
        let kernel = Kernel::get(&cache, &apt)?;
        let accel = Accel::choose(&kernel.vmlinuz)?;
        let runs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm");
        static SAID: Once = Once::new();
        SAID.call_once(|| eprintln!("vm: {accel:?}, logs in {}", runs.display()));
        Ok(Self {
            cache,
            apt,
            kernels: RefCell::new(BTreeMap::from([(SUITE, Rc::new(kernel))])),
            binary,
            accel,
            runs,
        })
    }

    /// A suite's kernel.
    pub(crate) fn kernel(&self, suite: &'static str) -> Result<Rc<Kernel>> {
        if let Some(kernel) = self.kernels.borrow().get(suite) {
            return Ok(Rc::clone(kernel));
        }
        let apt = Apt::open(&self.cache, suite)?;
        let kernel = Rc::new(Kernel::get(&self.cache, &apt)?);
        let mut kernels = self.kernels.borrow_mut();
        Ok(Rc::clone(kernels.entry(suite).or_insert(kernel)))
    }

    /// Runs one case. An error says what did not hold, and where the log is.
    ///
    /// With two CPUs QEMU's emulator now and then runs an instruction that the kernel is just patching
    /// (a breakpoint for a moment), and the kernel dies of it. That says nothing about the case: it is
    /// run once more.
    pub(crate) fn run(&self, case: &Case) -> Result<Outcome> {
        match self.run_once(case) {
            Err(error)
                if self.accel == Accel::Tcg
                    && (format!("{error:#}").contains(TORN) || self.server_is_torn(case)) =>
            {
                println!(
                    "vm: {}: the emulator tore an instruction ({TORN}); once more",
                    case.name
                );
                self.run_once(case)
            }
            result => result,
        }
    }

    /// Whether the kernel of the case's server died of the emulator: the case tells only that nobody answered.
    fn server_is_torn(&self, case: &Case) -> bool {
        let log = fs::read(self.dir(case).join("server.log")).unwrap_or_default();
        case.server.is_some() && String::from_utf8_lossy(&log).contains(TORN)
    }

    /// Where a case's logs go.
    fn dir(&self, case: &Case) -> PathBuf {
        self.runs.join(case.name.replace(' ', "-"))
    }

    fn run_once(&self, case: &Case) -> Result<Outcome> {
        let dir = self.dir(case);
        fs::create_dir_all(&dir).with_context(|| format!("making '{}'", dir.display()))?;
        let mut machine = self.machine(case, &dir)?;
        let words = machine.words.clone();
        let before = sums(&machine.media)?;
        let mut outcome = Outcome::default();
        let mut judged = Ok(());
        for boot in 1..=case.boots {
            if case.boots > 1 {
                let own = case.each.get(boot as usize - 1).unwrap_or(&"");
                machine.words = format!("{words} {own} boot={boot}");
            }
            machine.cut = (2..=case.cuts + 1)
                .contains(&boot)
                .then(|| Cut::of_a_merge(case));
            outcome = self.boot(case, &machine, &dir)?;
            judged = match machine.cut {
                Some(cut) => cut.judge(&outcome),
                None => judge(case, &machine.words, &outcome)
                    .and_then(|()| left_well(case, &machine.media)),
            };
            if judged.is_err() {
                break;
            }
        }
        let judged = judged.and_then(|()| {
            ensure!(
                sums(&machine.media)? == before,
                "a medium was written: its sha256 changed"
            );
            Ok(())
        });
        // Copies of media are large; the log is what is kept.
        let copies = machine.media.iter().map(|(_, file)| file);
        for file in copies.filter(|file| file.starts_with(&dir)) {
            fs::remove_file(file)?;
        }
        match judged {
            Ok(()) => Ok(outcome),
            Err(why) => {
                let torn = outcome.console.iter().find(|line| line.contains(TORN));
                let last = torn.into_iter().chain(last_words(&outcome.console));
                let last = last.map(String::as_str).collect::<Vec<_>>().join("\n  ");
                let log = dir.join("serial.log");
                Err(anyhow!("{why:#}\n  {last}\nserial log: {}", log.display()))
            }
        }
    }

    /// One boot; another one where the emulator came so late that the kernel took its timer for broken: then no medium
    /// was looked at yet.
    fn boot(&self, case: &Case, machine: &Machine, dir: &Path) -> Result<Outcome> {
        let deadline = Duration::from_secs(case.quiet_s * 5);
        let outcome = machine.run(dir, deadline)?;
        let is_late = |line: &String| line.contains("IO-APIC + timer doesn't work");
        if self.accel != Accel::Tcg || !outcome.console.iter().any(is_late) {
            return Ok(outcome);
        }
        println!(
            "vm: {}: the emulator's timer came late; once more",
            case.name
        );
        machine.run(dir, deadline)
    }

    /// The demo's machine: the first case's, without its check unless `guest` names one.
    pub(crate) fn demo(&self, case: &Case, interactive: bool) -> Result<bool> {
        if !interactive {
            let outcome = self.run(case)?;
            for line in outcome
                .console
                .iter()
                .filter_map(|l| l.strip_prefix("demo: "))
            {
                println!("{line}");
            }
            return Ok(true);
        }
        let mut qemu = self.machine(case, &self.runs)?.command();
        qemu.args([
            "-chardev",
            "stdio,id=console,mux=on,signal=off",
            "-serial",
            "chardev:console",
        ])
        .args(["-mon", "chardev=console"])
        .stdin(std::process::Stdio::inherit());
        Ok(qemu
            .status()
            .context("starting 'qemu-system-x86_64'")?
            .success())
    }

    /// The case's machine; what the guest could write is a copy in `dir`.
    fn machine(&self, case: &Case, dir: &Path) -> Result<Machine> {
        let kernel = self.kernel(case.kernel)?;
        let initramfs = case.initramfs.get(&self.cache, &kernel, &self.binary)?;
        let network = case.server.map(|server| Network::start(server, self, dir));
        let network = network.transpose()?;
        let words = case.command_line();
        Ok(Machine {
            accel: self.accel,
            memory_mib: case.memory_mib,
            memory_at_once: false,
            cut: None,
            firmware: case.firmware,
            vmlinuz: kernel.vmlinuz.clone(),
            words: match &network {
                Some(network) => network.words(&words),
                None => words,
            },
            network,
            media: self.media(case, dir, &kernel, &initramfs)?,
            initramfs,
        })
    }

    fn maker<'a>(&'a self, loader: &'a Loader<'a>, kernel: &'a Kernel) -> Maker<'a> {
        Maker {
            cache: &self.cache,
            apt: &self.apt,
            binary: &self.binary,
            loader,
            release: &kernel.release,
        }
    }

    /// A copy at `copy` of a medium that boots nothing.
    pub(crate) fn copy_of(
        &self,
        medium: Medium,
        kernel: &Kernel,
        initramfs: &Path,
        copy: &Path,
    ) -> Result<PathBuf> {
        let loader = Loader {
            vmlinuz: &kernel.vmlinuz,
            initramfs,
            settings: String::new(),
        };
        let maker = self.maker(&loader, kernel);
        copied(&maker.get(medium.content)?, copy)?;
        Ok(copy.to_owned())
    }

    /// The files that stand for the case's media: a copy where the guest could write.
    fn media(
        &self,
        case: &Case,
        dir: &Path,
        kernel: &Kernel,
        initramfs: &Path,
    ) -> Result<Vec<(Medium, PathBuf)>> {
        let loader = Loader {
            vmlinuz: &kernel.vmlinuz,
            initramfs,
            settings: case.menu_settings(),
        };
        let maker = self.maker(&loader, kernel);
        let media = case.media.iter().enumerate().map(|(number, medium)| {
            let made = maker.get(medium.content)?;
            if medium.bus == Bus::Cd {
                return Ok((*medium, made));
            }
            let copy = dir.join(format!("medium{number}"));
            copied(&made, &copy)?;
            if matches!(medium.bus, Bus::Usb | Bus::UsbLate(_)) {
                let stick = fs::File::options().write(true).open(&copy)?;
                stick.set_len(stick.metadata()?.len() + LARGER)?;
            }
            Ok((*medium, copy))
        });
        media.collect()
    }
}

fn copied(made: &Path, copy: &Path) -> Result<()> {
    let paths = [made.as_os_str(), copy.as_os_str()];
    run("cp", ["--sparse=always".as_ref()].into_iter().chain(paths)).map(drop)
}

/// Who copies an ISO to a stick seldom has one of just that size: what should be at the end is not.
const LARGER: u64 = 64 << 20;

/// What the kernel says when it meets a breakpoint that nobody set.
pub(crate) const TORN: &str = "Oops: int3";

/// The end of the console, or what led to a panic: the call trace behind it tells nothing.
pub(crate) fn last_words(console: &[String]) -> &[String] {
    let panic = console.iter().position(|l| l.contains(PANIC));
    let end = panic.map_or(console.len(), |line| line + 1);
    console
        .get(end.saturating_sub(LAST_LINES)..end)
        .unwrap_or_default()
}

/// What must be the same afterwards: media as a whole, and the base on one that holds the cowfile, too.
fn sums(media: &[(Medium, PathBuf)]) -> Result<Vec<String>> {
    let mut sums = Vec::new();
    for (medium, file) in media {
        match medium.content {
            Content::Pocket(fs) => {
                let base = tempfile::NamedTempFile::new()?;
                fs.extract(file, "live/root.img", base.path())?;
                sums.push(sha256(base.path())?);
            }
            content if content.is_written() => {}
            _ => sums.push(sha256(file)?),
        }
    }
    Ok(sums)
}

/// Whether sticks of a machine that was shut down are as they should be when they are taken out.
fn left_well(case: &Case, media: &[(Medium, PathBuf)]) -> Result<()> {
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
fn judge(case: &Case, words: &str, outcome: &Outcome) -> Result<()> {
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
            ensure!(!panicked, "the kernel panicked");
            ensure!(
                outcome.report.is_empty(),
                "a root has started: {:?}",
                outcome.report
            );
        }
        Ending::PowerOff => {
            ensure!(!panicked, "the kernel panicked");
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
