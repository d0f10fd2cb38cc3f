//! The contenders: how each is set up over /run/ram/base, and taken down.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell::sh;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// `cowroot attach`.
    Cowroot,
    /// The same, believing that there is one CPU: it never spins.
    CowrootNoSpin,
    /// dm-snapshot, not persistent, chunks of 8 sectors, both sides through loop.
    SnapshotN,
    /// dm-snapshot as dracut makes it: persistent, with overflow.
    SnapshotPo,
    /// overlayfs: a loop mount of the base below, a tmpfs above.
    Overlayfs,
    /// libublk, completing at once.
    UblkNull,
    /// libublk over a copy of the base.
    UblkLoop,
    /// The kernel's loop over a copy of the base.
    Loop,
}

use Contender::{
    Cowroot, CowrootNoSpin, Loop, Overlayfs, SnapshotN, SnapshotPo, UblkLoop, UblkNull,
};

/// The base, and what is written at most, live here: one tmpfs.
pub(crate) const BASE: &str = "/run/ram/base";
const COPY: &str = "/run/ram/copy";
const COW: &str = "/run/ram/cow";
const COW_SIZE: &str = "1536M";
/// Where a contender's file system is mounted.
pub(crate) const ROOT: &str = "/run/root";

impl Contender {
    /// Who is measured with fio.
    pub(crate) const RAW: &[Self] = &[
        Cowroot,
        SnapshotN,
        CowrootNoSpin,
        Loop,
        SnapshotPo,
        UblkNull,
        Overlayfs,
        UblkLoop,
    ];
    /// Who does real work on a file system.
    pub(crate) const FOR_WORK: &[Self] = &[Cowroot, SnapshotN, Loop, SnapshotPo, Overlayfs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Cowroot => "cowroot",
            CowrootNoSpin => "cowroot-nospin",
            SnapshotN => "snapshot-N",
            SnapshotPo => "snapshot-PO",
            Overlayfs => "overlayfs",
            UblkNull => "ublk-null",
            UblkLoop => "ublk-loop",
            Loop => "loop",
        }
    }

    /// Set it up, fresh.
    pub(crate) fn set_up(self) -> Result<Standing> {
        let mut standing = Standing::default();
        match self {
            Cowroot => standing.attach("")?,
            // It counts its CPUs when it starts; afterwards it may use all of them.
            CowrootNoSpin => {
                standing.attach("taskset 1 ")?;
                let pid = standing.daemon.unwrap_or_default();
                sh(&format!("taskset -ap 3 {pid}"))?;
            }
            SnapshotN => standing.snapshot("N")?,
            SnapshotPo => standing.snapshot("PO")?,
            Overlayfs => standing.overlayfs()?,
            UblkNull => {
                let bytes = std::fs::metadata(BASE)?.len();
                standing.ublk("null", &bytes.to_string())?;
            }
            UblkLoop => {
                copy_base()?;
                standing.ublk("loop", COPY)?;
            }
            Loop => {
                copy_base()?;
                let device = standing.loop_device("", COPY)?;
                standing.device = device;
            }
        }
        Ok(standing)
    }
}

/// The copy that may be written as it is: fio does not look at what it reads. A file system does, so
/// [`forget_copy`] comes before work.
fn copy_base() -> Result<()> {
    if std::fs::exists(COPY)? {
        return Ok(());
    }
    sh(&format!("dd if={BASE} of={COPY} bs=1M status=none")).map(drop)
}

/// Have the next copy made anew.
pub(crate) fn forget_copy() -> Result<()> {
    sh(&format!("rm -f {COPY}")).map(drop)
}

/// A contender that stands. Dropping it takes it down.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Its block device; none is overlayfs.
    pub(crate) device: String,
    /// The process that serves it, if there is one.
    pub(crate) daemon: Option<u32>,
    server: Option<(Child, Option<ChildStdin>)>,
    /// Command lines that take it down, the last one first.
    down: Vec<String>,
}

impl Standing {
    fn attach(&mut self, with: &str) -> Result<()> {
        self.device = sh(&format!(
            "{with}cowroot attach --base {BASE} --cow tmpfs:{COW_SIZE}"
        ))?;
        self.down.push(format!("cowroot detach {}", self.device));
        let status: serde_json::Value = serde_json::from_str(&sh("cowroot status --json")?)?;
        let pid = status
            .pointer("/devices/0/pid")
            .and_then(serde_json::Value::as_u64);
        self.daemon = Some(u32::try_from(pid.context("finding the daemon's pid")?)?);
        Ok(())
    }

    fn loop_device(&mut self, options: &str, file: &str) -> Result<String> {
        let device = sh(&format!("losetup {options} -f --show {file}"))?;
        self.down.push(format!("losetup -d {device}"));
        Ok(device)
    }

    fn snapshot(&mut self, kind: &str) -> Result<()> {
        sh(&format!("rm -f {COW} && truncate -s {COW_SIZE} {COW}"))?;
        self.down.push(format!("rm {COW}"));
        let base = self.loop_device("-r", BASE)?;
        let cow = self.loop_device("", COW)?;
        let sectors = sh(&format!("blockdev --getsz {base}"))?;
        let table = format!("0 {sectors} snapshot {base} {cow} {kind} 8");
        sh(&format!(
            "dmsetup create bench --noudevsync --table '{table}'"
        ))?;
        self.down
            .push("dmsetup remove --noudevsync --retry bench".into());
        // There is no udev to make /dev/mapper/bench.
        let name = sh("dmsetup info --columns --noheadings -o blkdevname bench")?;
        self.device = format!("/dev/{}", name.trim());
        Ok(())
    }

    fn overlayfs(&mut self) -> Result<()> {
        let base = self.loop_device("-r", BASE)?;
        sh("mkdir -p /run/lower /run/ram/writes/upper /run/ram/writes/work")?;
        self.down.push("rm -r /run/ram/writes".into());
        sh(&format!("mount -t ext4 -o ro {base} /run/lower"))?;
        self.down.push("umount /run/lower".into());
        let layers =
            "lowerdir=/run/lower,upperdir=/run/ram/writes/upper,workdir=/run/ram/writes/work";
        sh(&format!(
            "mkdir -p {ROOT} && mount -t overlay -o {layers} overlay {ROOT}"
        ))?;
        self.down.push(format!("umount {ROOT}"));
        Ok(())
    }

    fn ublk(&mut self, kind: &str, what: &str) -> Result<()> {
        let mut server = Command::new(std::env::current_exe()?);
        let server = server
            .args([kind, what])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut server = server.spawn().context("starting a ublk server")?;
        let mut line = String::new();
        let said = server.stdout.take().context("a ublk server's output")?;
        BufReader::new(said).read_line(&mut line)?;
        let stdin = server.stdin.take();
        self.daemon = Some(server.id());
        self.server = Some((server, stdin));
        let Some(name) = line.trim().strip_prefix("/dev/") else {
            bail!("the ublk server said '{}'", line.trim());
        };
        // As cowroot does for its own.
        std::fs::write(format!("/sys/block/{name}/queue/scheduler"), "none")?;
        self.device = format!("/dev/{name}");
        Ok(())
    }

    /// Mount its file system at [`ROOT`]; overlayfs is one.
    pub(crate) fn mount(&mut self) -> Result<()> {
        if self.device.is_empty() {
            return Ok(());
        }
        sh(&format!(
            "mkdir -p {ROOT} && mount -t ext4 {} {ROOT}",
            self.device
        ))?;
        self.down.push(format!("umount {ROOT}"));
        Ok(())
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        while let Some(line) = self.down.pop() {
            if let Err(error) = sh(&line) {
                eprintln!("bench: {error:#}");
            }
        }
        if let Some((mut server, stdin)) = self.server.take() {
            drop(stdin);
            let _ = server.wait();
        }
    }
}
