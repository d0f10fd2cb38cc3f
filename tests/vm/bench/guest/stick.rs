//! Cowfiles that stay: cowroot's and dm-snapshot's on a stick, a slow one and one without delay. QEMU logs what
//! reaches the stick's disk; marks written to its first page say which part of the log is whose.

use std::thread::sleep;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::contender::{BASE, ROOT};
use crate::disks::{FAST, SETTLE, SLOW, Stick};
use crate::shell::{Report, sh, timed};

/// Who keeps the writes, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    /// A cowfile on the bare stretch.
    Cowroot,
    /// A cowfile in the vfat, which grows as it is written.
    CowrootVfat,
    /// dm-snapshot, persistent, chunks of 8 sectors, on the bare stretch.
    Snapshot,
}

use Contender::{Cowroot, CowrootVfat, Snapshot};

const ALL: [Contender; 3] = [Cowroot, Snapshot, CowrootVfat];

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Cowroot => "cowroot",
            CowrootVfat => "cowroot-vfat",
            Snapshot => "snapshot-P",
        }
    }
}

/// Where a stick's stretches begin, and how long each is, in MiB. All begin with an erase zone of 4 MiB.
const BARE_MIB: u64 = 4;
const VFAT_MIB: u64 = 2052;
const STRETCH_MIB: u64 = 2048;

/// A sparse device for random writes, and how many there are.
const LARGE: &str = "/run/ram/large";
const LARGE_GIB: u64 = 16;
const RANDOM_MIB: u64 = 512;

/// On the base's file system.
const WORK: [(&str, &str); 3] = [
    (
        "sqlite, 40 inserts",
        "head -n 41 ROOT/opt/inserts.sql | sqlite3 ROOT/var/bench.db",
    ),
    (
        "dpkg -i, 4 packages",
        "chroot ROOT sh -c 'dpkg -i /opt/debs/*.deb' && sync -f ROOT",
    ),
    (
        "untar 1,500 files",
        "tar -C ROOT/var -xf /opt/tree.tar && sync -f ROOT",
    ),
];

/// On the device: name, and fio's words.
const FIO: [(&str, &str); 5] = [
    (
        "random 4k, fsync each",
        "--rw=randwrite --bs=4k --offset=512M --size=64M --io_size=800k --fsync=1 --end_fsync=1",
    ),
    (
        "the same again",
        "--rw=randwrite --bs=4k --offset=512M --size=64M --io_size=800k --fsync=1 --end_fsync=1",
    ),
    (
        "random 4k, no fsync",
        "--rw=randwrite --bs=4k --offset=600M --size=256M --io_size=16M --iodepth=32 --end_fsync=1",
    ),
    (
        "128k sequential, fsync each MiB",
        "--rw=write --bs=128k --offset=900M --size=32M --fsync=8 --end_fsync=1",
    ),
    (
        "128k sequential, no fsync",
        "--rw=write --bs=128k --offset=1000M --size=64M --iodepth=4 --end_fsync=1",
    ),
];

/// Random writes over a large device, once; then all else, `rounds` times.
pub(crate) fn run(rounds: usize, report: &Report) -> Result<()> {
    sh(&format!("truncate -s {LARGE_GIB}G {LARGE}"))?;
    for contender in [Cowroot, Snapshot] {
        tell(report, FAST, contender, large(contender, report));
    }
    for round in 0..rounds {
        for stick in [FAST, SLOW] {
            for contender in crate::order(&ALL, round) {
                tell(
                    report,
                    stick,
                    contender,
                    round_on(stick, contender, round, report),
                );
            }
        }
    }
    Ok(())
}

/// Says what went wrong, so that the others still have figures.
fn tell(report: &Report, stick: Stick, contender: Contender, result: Result<()>) {
    if let Err(error) = result {
        let who = format!("{} on {}", contender.name(), stick.name);
        let _ = report.say(&format!("BENCH-TROUBLE {who}: {error:#}").replace('\n', " "));
    }
}

/// One contender's round: work on the file system, then on the device itself.
fn round_on(stick: Stick, contender: Contender, round: usize, report: &Report) -> Result<()> {
    let mut standing = Standing::new(stick, contender, BASE)?;
    let job = Job {
        stick,
        contender,
        round,
        report,
    };
    // What mke2fs left to be zeroed in the background is nobody's work here.
    sh(&format!(
        "mkdir -p {ROOT} && mount -t ext4 -o noinit_itable {} {ROOT}",
        standing.device
    ))?;
    standing.down.push(format!("umount {ROOT}"));
    for (name, line) in WORK {
        let line = line.replace("ROOT", ROOT);
        job.measure(name, &standing.device, &|| timed(&line))?;
    }
    standing.take_down_last()?;
    for (name, words) in FIO {
        let device = standing.device.clone();
        job.measure(name, &device, &|| fio(&device, words))?;
    }
    Ok(())
}

/// Random writes over a device that is larger than what is written.
fn large(contender: Contender, report: &Report) -> Result<()> {
    let standing = Standing::new(FAST, contender, LARGE)?;
    let words = format!(
        "--rw=randwrite --bs=4k --size={LARGE_GIB}G --io_size={RANDOM_MIB}M --iodepth=32 --end_fsync=1"
    );
    let job = Job {
        stick: FAST,
        contender,
        round: 0,
        report,
    };
    let name = format!("{} random 4k over {LARGE_GIB} GiB", RANDOM_MIB << 20 >> 12);
    job.measure(&name, &standing.device, &|| fio(&standing.device, &words))
}

/// What a figure is said of.
struct Job<'a> {
    stick: Stick,
    contender: Contender,
    round: usize,
    report: &'a Report,
}

impl Job<'_> {
    /// Do it between two marks, and say how long it took and what the guest wrote.
    fn measure(&self, name: &str, device: &str, work: &dyn Fn() -> Result<f64>) -> Result<()> {
        sh("sync; echo 3 >/proc/sys/vm/drop_caches")?;
        sleep(SETTLE);
        let before = written(device)?;
        self.mark("begin", name)?;
        let seconds = work().with_context(|| name.to_owned())?;
        sleep(SETTLE);
        self.mark("end", name)?;
        let after = written(device)?;
        let line = json!({
            "stick": self.stick.name,
            "contender": self.contender.name(),
            "round": self.round,
            "job": name,
            "seconds": seconds,
            "pages": (after.0 - before.0) / 8,
            "flushes": after.1 - before.1,
        });
        self.report.say(&format!("BENCH-STICK {line}"))
    }

    /// A page at the disk's beginning, in the log too.
    fn mark(&self, what: &str, name: &str) -> Result<()> {
        let (round, who) = (self.round, self.contender.name());
        let text = format!("COWROOT-MARK|{what}|{who}|{round}|{name}|");
        let disk = self.stick.disk;
        sh(&format!(
            "printf '%-4096s' '{text}' | dd of={disk} bs=4096 count=1 iflag=fullblock oflag=direct status=none"
        ))
        .map(drop)
    }
}

/// Sectors written to a device and flushes it was asked for.
fn written(device: &str) -> Result<(u64, u64)> {
    let name = device.trim_start_matches("/dev/");
    let text = std::fs::read_to_string(format!("/sys/block/{name}/stat"))
        .with_context(|| format!("reading what was written to '{device}'"))?;
    let mut fields = text.split_whitespace().map(str::parse::<u64>);
    let mut field = |skip| {
        fields
            .nth(skip)
            .context("too few fields")?
            .context("no number")
    };
    Ok((field(6)?, field(8)?))
}

fn fio(device: &str, words: &str) -> Result<f64> {
    let said = sh(&format!(
        "fio --output-format=json --name=job --filename={device} --direct=1 --ioengine=libaio --thread \
         --invalidate=0 --random_generator=lfsr --fallocate=none --allow_file_create=0 {words}"
    ))?;
    let start = said.find('{').context("fio printed no JSON")?;
    let parsed: Value = serde_json::from_str(said.get(start..).unwrap_or_default())?;
    let ms = parsed
        .pointer("/jobs/0/job_runtime")
        .and_then(Value::as_f64);
    Ok(ms.context("fio says not how long it ran")? / 1000.0)
}

/// A contender that stands. Dropping it takes it down.
struct Standing {
    device: String,
    down: Vec<String>,
}

impl Standing {
    fn new(stick: Stick, contender: Contender, base: &str) -> Result<Self> {
        let mut standing = Self {
            device: String::new(),
            down: Vec::new(),
        };
        match contender {
            Cowroot => {
                let cow = standing.stretch(stick, BARE_MIB)?;
                standing.cowroot(&cow, base)?;
            }
            CowrootVfat => {
                let stretch = standing.stretch(stick, VFAT_MIB)?;
                sh(&format!("mkfs.fat -F 32 {stretch} && mkdir -p /run/stick"))?;
                sh(&format!("mount -t vfat {stretch} /run/stick"))?;
                standing.down.push("umount /run/stick".into());
                standing.cowroot("/run/stick/session.cow", base)?;
            }
            Snapshot => {
                let cow = standing.stretch(stick, BARE_MIB)?;
                let base = sh(&format!("losetup -r -f --show {base}"))?;
                standing.down.push(format!("losetup -d {base}"));
                let sectors = sh(&format!("blockdev --getsz {base}"))?;
                let table = format!("0 {sectors} snapshot {base} {cow} P 8");
                standing.device = standing.mapped("bench", &table)?;
            }
        }
        Ok(standing)
    }

    fn cowroot(&mut self, cow: &str, base: &str) -> Result<()> {
        sh(&format!("cowroot create {cow} --base {base}"))?;
        self.device = sh(&format!("cowroot attach --base {base} --cow {cow}"))?;
        self.down.push(format!("cowroot detach {}", self.device));
        Ok(())
    }

    /// A part of the stick, with its delays, blank.
    fn stretch(&mut self, stick: Stick, from_mib: u64) -> Result<String> {
        let Stick { disk, delay, .. } = stick;
        sh(&format!(
            "dd if=/dev/zero of={disk} bs=1M seek={from_mib} count=12 oflag=direct status=none"
        ))?;
        let (sectors, at) = (STRETCH_MIB << 11, from_mib << 11);
        let kind = match delay {
            Some([read, write, flush]) => {
                format!("delay {disk} {at} {read} {disk} {at} {write} {disk} {at} {flush}")
            }
            None => format!("linear {disk} {at}"),
        };
        self.mapped("stretch", &format!("0 {sectors} {kind}"))
    }

    fn mapped(&mut self, name: &str, table: &str) -> Result<String> {
        sh(&format!(
            "dmsetup create {name} --noudevsync --table '{table}'"
        ))?;
        self.down
            .push(format!("dmsetup remove --noudevsync --retry {name}"));
        // There is no udev to make /dev/mapper.
        let device = sh(&format!(
            "dmsetup info --columns --noheadings -o blkdevname {name}"
        ))?;
        Ok(format!("/dev/{}", device.trim()))
    }

    fn take_down_last(&mut self) -> Result<()> {
        match self.down.pop() {
            Some(line) => sh(&line).map(drop),
            None => bail!("nothing stands"),
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        while !self.down.is_empty() {
            if let Err(error) = self.take_down_last() {
                eprintln!("bench: {error:#}");
            }
        }
    }
}
