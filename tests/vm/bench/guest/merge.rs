//! Merges: `cowroot merge`, device-mapper's snapshot-merge and `qemu-img commit`, of the same changes into the same
//! base, which lies with what keeps the changes on one stick: a slow one, or one without delay. Everything is
//! made ready behind the slow one's back, through another disk that is the same file of the host.

use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::changes::{JOBS, Job, fill, first_difference, write_all};
use crate::disks::{FAST, SETTLE, SLOW, Stick};
use crate::shell::{Report, sh};

/// Who merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contender {
    Cowroot,
    /// dm-snapshot, persistent, chunks of 8 sectors.
    Snapshot,
    /// qcow2 with the clusters that it has if nobody asks for others.
    Qemu,
}

use Contender::{Cowroot, Qemu, Snapshot};

const ALL: [Contender; 3] = [Cowroot, Qemu, Snapshot];

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Cowroot => "cowroot",
            Snapshot => "snapshot-merge",
            Qemu => "qemu-img",
        }
    }
}

/// What the base is before each merge.
const ORIGINAL: &str = "/dev/vda";

/// Where the stick's parts begin, and how long what keeps the changes is, in MiB.
const BASE_MIB: u64 = 4;
const STORE_MIB: u64 = 2048;
const STORE_LONG_MIB: u64 = 1280;

/// How often one looks whether the kernel is done.
const LOOK: Duration = Duration::from_millis(100);
/// All jobs on both sticks, `rounds` times.
pub(crate) fn run(rounds: usize, report: &Report) -> Result<()> {
    // qemu-nbd has a socket there.
    sh("mkdir -p /run/lock")?;
    sh(&format!(
        "dd if={ORIGINAL} of={} bs=1M seek={BASE_MIB} oflag=direct conv=fsync status=none",
        FAST.disk
    ))?;
    for round in 0..rounds {
        for stick in [FAST, SLOW] {
            for job in JOBS {
                for contender in crate::order(&ALL, round) {
                    let who = format!("{} on {}, {}", contender.name(), stick.name, job.name);
                    report.say(&format!("{who}: making ready"))?;
                    if let Err(error) = one(stick, job, contender, round, report) {
                        let line = format!("BENCH-TROUBLE {who}: {error:#}").replace('\n', " ");
                        report.say(&line)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// One merge, and whether the base has everything then.
fn one(stick: Stick, job: Job, who: Contender, round: usize, report: &Report) -> Result<()> {
    let bytes = size(ORIGINAL)?;
    let (base, store) = (
        Part::new("base", BASE_MIB, bytes >> 9)?,
        Part::new("store", STORE_MIB, STORE_LONG_MIB << 11)?,
    );
    let writes = job.writes(bytes);
    let original = File::open(ORIGINAL)?;
    write_all(&base.device, &writes, |at, page| {
        Ok(original.read_exact_at(page, at)?)
    })?;
    let seed = u64::try_from(round)? << 8 | u64::from(stick.delay.is_some());
    keep_changes(who, &base, &store, &writes, seed)?;
    sh("sync; echo 3 >/proc/sys/vm/drop_caches")?;
    base.put_on(stick)?;
    store.put_on(stick)?;

    report.say("merging")?;
    let before = (Counts::of(&base.device)?, Counts::of(stick.disk)?);
    let start = Instant::now();
    merge(who, &base, &store)?;
    let seconds = start.elapsed().as_secs_f64();
    sh("sync")?;
    sleep(SETTLE);
    let after = (Counts::of(&base.device)?, Counts::of(stick.disk)?);

    base.put_on(FAST)?;
    store.put_on(FAST)?;
    sh("echo 3 >/proc/sys/vm/drop_caches")?;
    let wrong = first_difference(&base.device, &writes, seed)?;
    ensure!(wrong.is_none(), "after the merge byte {wrong:?} is another");
    let line = json!({
        "stick": stick.name,
        "job": job.name,
        "contender": who.name(),
        "round": round,
        "seconds": seconds,
        "changed": job.mib << 20,
        "base_written": after.0.written - before.0.written,
        "base_read": after.0.read - before.0.read,
        "written": after.1.written - before.1.written,
        "read": after.1.read - before.1.read,
        "writes": after.1.writes - before.1.writes,
        "flushes": after.1.flushes - before.1.flushes,
    });
    report.say(&format!("BENCH-MERGE {line}"))
}

/// Make what keeps changes, and the changes, through the device that each is written by.
fn keep_changes(
    who: Contender,
    base: &Part,
    store: &Part,
    writes: &(Vec<u64>, usize),
    seed: u64,
) -> Result<()> {
    let (below, above) = (&base.device, &store.device);
    sh(&format!(
        "dd if=/dev/zero of={above} bs=1M count=12 oflag=direct status=none"
    ))?;
    let (device, down) = match who {
        Cowroot => {
            sh(&format!("cowroot create {above} --base {below}"))?;
            let device = sh(&format!("cowroot attach --base {below} --cow {above}"))?;
            let down = format!("cowroot detach {device}");
            (device, down)
        }
        Snapshot => {
            let table = format!("0 {} snapshot {below} {above} P 8", size(below)? >> 9);
            let device = mapped("changes", &table)?;
            (device, remove("changes"))
        }
        Qemu => {
            sh(&format!(
                "qemu-img create -q -f qcow2 -F raw -b {below} {above}"
            ))?;
            let pid = "/run/nbd.pid";
            // Its own output would keep the shell's open.
            let log = "/run/nbd.log";
            sh(&format!(
                "qemu-nbd -f qcow2 --pid-file={pid} -c /dev/nbd0 {above} >{log} 2>&1 || {{ cat {log}; exit 1; }}"
            ))?;
            wait_for_size("/dev/nbd0", size(below)?)?;
            // Nobody waits for it here: what is left of a process has no program.
            let gone = "while [ -e /proc/$pid/exe ]; do sleep 0.1; done";
            let down = format!("pid=$(cat {pid}); qemu-nbd -d /dev/nbd0 && {gone}");
            ("/dev/nbd0".to_owned(), down)
        }
    };
    let written = write_all(&device, writes, |at, page| {
        fill(seed, at, page);
        Ok(())
    });
    sh(&down)?;
    written
}

fn merge(who: Contender, base: &Part, store: &Part) -> Result<()> {
    let (below, above) = (&base.device, &store.device);
    match who {
        Cowroot => sh(&format!("cowroot merge {above} --into {below}")).map(drop),
        Qemu => sh(&format!("qemu-img commit -q -f qcow2 {above}")).map(drop),
        Snapshot => {
            let table = format!("0 {} snapshot-merge {below} {above} P 8", size(below)? >> 9);
            mapped("merging", &table)?;
            let merged = merged("merging");
            sh(&remove("merging"))?;
            merged
        }
    }
}

/// Wait until the kernel has nothing left to merge.
fn merged(name: &str) -> Result<()> {
    loop {
        // 0 3932160 snapshot-merge 16/2621440 16: in use, of all, and of it for lists.
        let status = sh(&format!("dmsetup status {name}"))?;
        let mut words = status.split_whitespace().skip(3);
        let (used, lists) = (words.next().unwrap_or_default(), words.next());
        match (used.split_once('/'), lists) {
            (Some((used, _)), Some(lists)) if used == lists => return Ok(()),
            (Some(_), Some(_)) => sleep(LOOK),
            _ => bail!("snapshot-merge says '{status}'"),
        }
    }
}

/// A part of the stick, at the disk that is in use.
struct Part {
    name: &'static str,
    from_mib: u64,
    sectors: u64,
    device: String,
}

impl Part {
    fn new(name: &'static str, from_mib: u64, sectors: u64) -> Result<Self> {
        let mut part = Self {
            name,
            from_mib,
            sectors,
            device: String::new(),
        };
        part.device = mapped(name, &part.table(FAST))?;
        Ok(part)
    }

    fn table(&self, Stick { disk, delay, .. }: Stick) -> String {
        let (sectors, at) = (self.sectors, self.from_mib << 11);
        match delay {
            Some([read, write, flush]) => {
                format!(
                    "0 {sectors} delay {disk} {at} {read} {disk} {at} {write} {disk} {at} {flush}"
                )
            }
            None => format!("0 {sectors} linear {disk} {at}"),
        }
    }

    fn put_on(&self, stick: Stick) -> Result<()> {
        let (name, table) = (self.name, self.table(stick));
        sh(&format!(
            "dmsetup load {name} --table '{table}' && dmsetup suspend --noudevsync {name} && \
             dmsetup resume --noudevsync {name}"
        ))
        .map(drop)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Err(error) = sh(&remove(self.name)) {
            eprintln!("bench: {error:#}");
        }
    }
}

fn mapped(name: &str, table: &str) -> Result<String> {
    sh(&format!(
        "dmsetup create {name} --noudevsync --table '{table}'"
    ))?;
    // There is no udev to make /dev/mapper.
    let device = sh(&format!(
        "dmsetup info --columns --noheadings -o blkdevname {name}"
    ))?;
    Ok(format!("/dev/{}", device.trim()))
}

fn remove(name: &str) -> String {
    format!("dmsetup remove --noudevsync --retry {name}")
}

/// What a device was asked for since the machine started.
struct Counts {
    read: u64,
    written: u64,
    writes: u64,
    flushes: u64,
}

impl Counts {
    fn of(device: &str) -> Result<Self> {
        let name = device.trim_start_matches("/dev/");
        let text = read_to_string(format!("/sys/block/{name}/stat"))
            .with_context(|| format!("reading what was written to '{device}'"))?;
        let fields = text.split_whitespace().map(str::parse);
        let fields: Vec<u64> = fields.collect::<Result<_, _>>()?;
        let field = |number: usize| fields.get(number).copied().context("too few fields");
        Ok(Self {
            read: field(2)? << 9,
            writes: field(4)?,
            written: field(6)? << 9,
            flushes: field(15)?,
        })
    }
}

fn size(device: &str) -> Result<u64> {
    Ok(sh(&format!("blockdev --getsize64 {device}"))?.parse()?)
}

fn wait_for_size(device: &str, bytes: u64) -> Result<()> {
    for _ in 0..50 {
        if size(device)? == bytes {
            return Ok(());
        }
        sleep(LOOK);
    }
    bail!("'{device}' does not become as large as its base")
}
