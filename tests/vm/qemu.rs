//! One QEMU: its command line, its two serial lines, its end.
//!
//! ttyS0 is the console: kernel, cowroot, systemd. ttyS1 carries what the guest's check reports, so that a
//! kernel message never lands in the middle of a result. Both go to one log.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::accel::Accel;
use crate::command::command;
use crate::cut::Cut;
use crate::media::{Bus, Medium};
use crate::nfs::Network;
use crate::watch::Watch;

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
                .arg("-append")
                .arg(format!("{}{}", self.words, self.accel.kernel_word())),
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
        let watch = Watch::new(monitor, File::open(report)?);
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
    fn add(self, qemu: &mut Command, number: usize, bps: Option<u64>, file: &Path) {
        let throttle = bps.map(|bps| match self {
            // Its delays are dm-delay's.
            Self::Logged | Self::Shared => format!(",throttling.bps-total={bps}"),
            _ => format!(",throttling.bps-total={bps},throttling.iops-total=1000"),
        });
        let throttle = throttle.unwrap_or_default();
        // A comma in a file name is written twice.
        let name = file.to_string_lossy().replace(',', ",,");
        let driver = match self {
            Self::Logged => logged(&name),
            // A flush need not reach the host's own disk: nobody cuts the host's power.
            Self::Exchanged => format!("format=raw,file={name},cache=unsafe"),
            Self::Shared => format!("format=raw,file={name},file.locking=off,cache=unsafe"),
            _ => format!("format=raw,file={name}"),
        };
        match self {
            // A drive would go with its device, and a medium that is taken out can be put back.
            Self::Usb | Self::UsbLate(_) | Self::Cd => {
                let read_only = if self == Self::Cd { "on" } else { "off" };
                let raw = format!(
                    "driver=raw,read-only={read_only},file.driver=file,file.filename={name}"
                );
                match bps {
                    None => qemu.args(["-blockdev", &format!("{raw},node-name=m{number}")]),
                    Some(bps) => qemu.args([
                        "-object",
                        &format!("throttle-group,id=t{number},x-bps-total={bps}"),
                        "-blockdev",
                        &format!("{raw},node-name=r{number}"),
                        "-blockdev",
                        &format!("driver=throttle,node-name=m{number},throttle-group=t{number},file=r{number}"),
                    ]),
                }
            }
            _ => qemu
                .arg("-drive")
                .arg(format!("if=none,id=m{number},{driver}{throttle}")),
        };
        let device = match self {
            Self::Cd => format!("ide-cd,bus=ide.{number},id=s{number},drive=m{number}"),
            Self::Disk | Self::Exchanged => format!("virtio-blk-pci,drive=m{number}"),
            Self::Shared => format!("virtio-blk-pci,drive=m{number},share-rw=on"),
            // Merged requests are too many parts for the log.
            Self::Logged => format!("virtio-blk-pci,drive=m{number},request-merging=off"),
            // Nearly all sticks say that what they hold could be taken out; a reader with a card is the same.
            Self::Usb => format!("usb-storage,bus=usb.0,id=s{number},drive=m{number},removable=on"),
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
