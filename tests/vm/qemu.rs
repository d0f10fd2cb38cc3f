//! One QEMU: its command line, its two serial lines, its end.
//!
//! ttyS0 is the console: kernel, cowroot, systemd. ttyS1 carries what the guest's check reports, so that a
//! kernel message never lands in the middle of a result. Both go to one log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::accel::Accel;
use crate::command::{command, run, sha256};
use crate::cut::Cut;
use crate::media::{Bus, Medium};
use crate::nfs::Network;
use crate::qmp::Qmp;

/// What starts a machine that boots from its medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Firmware {
    Bios,
    Uefi,
}

impl Firmware {
    /// QEMU's words for it. What the firmware remembers is forgotten after the run: a machine that has
    /// started another medium before tries that one first.
    fn args(self) -> &'static [&'static str] {
        match self {
            Self::Bios => &[],
            Self::Uefi => &[
                "-drive",
                "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
                "-drive",
                "if=pflash,format=raw,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd",
            ],
        }
    }
}

/// What a machine is made of.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) accel: Accel,
    pub(crate) memory_mib: u32,
    /// Take all of the memory from the host at once: who touches it first would pay for it.
    pub(crate) memory_at_once: bool,
    /// Boots a medium; without it QEMU starts the kernel.
    pub(crate) firmware: Option<Firmware>,
    pub(crate) vmlinuz: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) words: String,
    /// Each medium with the file that stands for it in this run.
    pub(crate) media: Vec<(Medium, PathBuf)>,
    /// Without one there is no network card either.
    pub(crate) network: Option<Network>,
    /// When its power goes, if it does.
    pub(crate) cut: Option<Cut>,
}

/// What a run left behind.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Lines of the console, without carriage returns and escape sequences.
    pub(crate) console: Vec<String>,
    /// Lines the guest's check reported.
    pub(crate) report: Vec<String>,
    /// Why the VM did not end by itself, if so.
    pub(crate) stuck: Option<String>,
    /// Its power was cut, as it was meant to be.
    pub(crate) is_cut: bool,
}

impl Machine {
    /// The command line, but for where the serial lines go.
    pub(crate) fn command(&self) -> Command {
        // setpriv: whoever ends this process must not leave a VM behind.
        let mut qemu = command("setpriv");
        qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        qemu.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args([
            "-machine",
            "q35",
            "-smp",
            "2",
            "-m",
            &self.memory_mib.to_string(),
        ])
        .args(self.memory_at_once.then_some("-mem-prealloc"))
        .args(self.accel.args())
        .args(["-device", "qemu-xhci,id=usb"]);
        match self.firmware {
            Some(firmware) => qemu.args(firmware.args()),
            None => qemu
                .arg("-kernel")
                .arg(&self.vmlinuz)
                .arg("-initrd")
                .arg(&self.initramfs)
                .args(["-append", &self.words]),
        };
        for (number, (medium, file)) in self.media.iter().enumerate() {
            medium.bus.add(&mut qemu, number, medium.throttle, file);
        }
        qemu.args(self.network.iter().flat_map(Network::args));
        qemu
    }

    /// Runs to the end, or to `deadline`; the log goes to `dir`/serial.log as it comes.
    pub(crate) fn run(&self, dir: &Path, deadline: Duration) -> Result<Outcome> {
        let (report, monitor) = (dir.join("report"), dir.join("qmp"));
        File::create(&report)?;
        let _absent = std::fs::remove_file(&monitor);
        let mut child = self
            .command()
            .args([
                "-chardev",
                "stdio,id=console,signal=off",
                "-serial",
                "chardev:console",
            ])
            .arg("-serial")
            .arg(format!("file:{}", report.display()))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting 'qemu-system-x86_64' (`make deps` installs it)")?;
        let lines = read_lines(&mut child)?;
        let watch = Watch {
            sums: BTreeMap::new(),
            monitor,
            report: File::open(report)?,
            pending: String::new(),
            init: None,
            plugged: 0,
        };
        let log = File::create(dir.join("serial.log"))?;
        let result = watch.follow(self, &lines, log, deadline);
        // Only ever our own child; a VM that ended by itself is not there any more.
        if child.try_wait()?.is_none() {
            child.kill()?;
        }
        child.wait()?;
        result
    }
}

impl Bus {
    /// Adds the medium `number`, which `file` stands for.
    fn add(self, qemu: &mut Command, number: usize, throttle: Option<u64>, file: &Path) {
        let throttle = throttle.map(|bps| match self {
            // Its delays are dm-delay's.
            Self::Logged | Self::Shared => format!(",throttling.bps-total={bps}"),
            _ => format!(",throttling.bps-total={bps},throttling.iops-total=1000"),
        });
        let throttle = throttle.unwrap_or_default();
        // A comma in a file name is written twice.
        let name = file.to_string_lossy().replace(',', ",,");
        let driver = match self {
            Self::Cd => format!("format=raw,file={name},media=cdrom,readonly=on"),
            Self::Logged => logged(&name),
            // A flush need not reach the host's own disk: nobody cuts the host's power.
            Self::Exchanged => format!("format=raw,file={name},cache=unsafe"),
            Self::Shared => format!("format=raw,file={name},file.locking=off,cache=unsafe"),
            _ => format!("format=raw,file={name}"),
        };
        match self {
            // A drive would go with its device, and a stick that is pulled out can be put back.
            Self::Usb | Self::UsbLate(_) => qemu.arg("-blockdev").arg(format!(
                "driver=raw,node-name=m{number},file.driver=file,file.filename={name}"
            )),
            _ => qemu
                .arg("-drive")
                .arg(format!("if=none,id=m{number},{driver}{throttle}")),
        };
        let device = match self {
            Self::Cd => format!("ide-cd,bus=ide.{number},drive=m{number}"),
            Self::Disk | Self::Exchanged => format!("virtio-blk-pci,drive=m{number}"),
            Self::Shared => format!("virtio-blk-pci,drive=m{number},share-rw=on"),
            // Merged requests are too many parts for the log.
            Self::Logged => format!("virtio-blk-pci,drive=m{number},request-merging=off"),
            Self::Usb => format!("usb-storage,bus=usb.0,id=s{number},drive=m{number}"),
            Self::UsbLate(_) => return,
        };
        // A firmware starts the first; 0 is what starts a kernel that QEMU is given.
        qemu.arg("-device")
            .arg(format!("{device},bootindex={}", number + 1));
    }
}

/// QEMU's words for a disk and its log. A flush is logged and goes no further: nobody cuts the host's power.
fn logged(name: &str) -> String {
    let child = |kind: &str, name: &str| {
        format!("{kind}.driver=file,{kind}.filename={name},{kind}.cache.no-flush=on")
    };
    format!(
        "driver=blklogwrites,{},{}",
        child("file", name),
        child("log", &format!("{name}.log"))
    )
}

/// Lines from the child's standard output (the console) and error (QEMU's own complaints).
fn read_lines(child: &mut Child) -> Result<Receiver<String>> {
    let (sender, receiver) = channel();
    let stdout: ChildStdout = child.stdout.take().context("QEMU's output")?;
    let stderr = child.stderr.take().context("QEMU's errors")?;
    spawn_reader(stdout, "", sender.clone());
    spawn_reader(stderr, "QEMU: ", sender);
    Ok(receiver)
}

fn spawn_reader(from: impl Read + Send + 'static, prefix: &'static str, to: Sender<String>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = format!("{prefix}{}", plain(&line));
            if to.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// A line without its end and without what moves a cursor or colours text.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                while chars
                    .next()
                    .is_some_and(|c| c == '[' || c == ']' || !c.is_ascii_alphabetic())
                {
                }
            }
            c if c.is_control() && c != '\t' => {}
            c => out.push(c),
        }
    }
    out
}

/// Puts the stick with this number in; one that was pulled out a moment ago may still be on its way.
fn put(monitor: &Path, number: usize) -> Result<()> {
    let device = json!({
        "driver": "usb-storage",
        "id": format!("s{number}"),
        "drive": format!("m{number}"),
        "bus": "usb.0",
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

/// Follows a run.
struct Watch {
    /// Of media that are to stay as they are, by their numbers.
    sums: BTreeMap<usize, String>,
    monitor: PathBuf,
    report: File,
    pending: String,
    init: Option<Instant>,
    plugged: usize,
}

impl Watch {
    fn follow(
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
