//! What people do: boot, install, unpack, look for, change. On the base's ext4 behind each contender.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::contender::{Contender, ROOT, forget_copy};
use crate::shell::{Report, cpu_us, rss_anon_kib, sh, timed};

/// What comes after the boot, in this order; each begins with cold caches.
const STEPS: [(&str, &str); 7] = [
    (
        "dpkg -i, 4 packages",
        "chroot ROOT sh -c 'dpkg -i /opt/debs/*.deb'",
    ),
    (
        "untar 1,500 files",
        "tar -C ROOT/var -xf /opt/tree.tar && sync -f ROOT",
    ),
    (
        "find, whole root",
        "find ROOT -xdev -newer ROOT/etc/hostname | wc -l",
    ),
    ("read 2,000 small files", "cat ROOT/opt/small/* | wc -c"),
    (
        "write 2,000 small files",
        "cp -r ROOT/opt/small ROOT/var/small && sync -f ROOT",
    ),
    (
        "change a byte in 1 GiB",
        "printf x | dd of=ROOT/opt/big bs=1 seek=500000000 conv=notrunc,fsync status=none",
    ),
    (
        "sqlite, 200 inserts",
        "sqlite3 ROOT/var/bench.db </opt/inserts.sql",
    ),
];

/// The whole of it on a fresh device.
pub(crate) fn measure(contender: Contender, round: usize, report: &Report) -> Result<()> {
    forget_copy()?;
    let mut standing = contender.set_up()?;
    standing.mount()?;
    let step = |job: &str, work: &dyn Fn() -> Result<f64>| {
        sh("sync; echo 3 >/proc/sys/vm/drop_caches")?;
        let before = standing.daemon.map(cpu_us).transpose()?;
        let seconds = work().with_context(|| job.to_owned())?;
        let after = standing.daemon.map(cpu_us).transpose()?;
        let daemon_us = before.zip(after).map(|(before, after)| after - before);
        report.figure(
            contender,
            round,
            job,
            json!({"seconds": seconds, "daemon_us": daemon_us}),
        )
    };
    report.outcome(contender, step("boot to multi-user", &boot));
    for (job, line) in STEPS {
        let work = || timed(&line.replace("ROOT", ROOT));
        report.outcome(contender, step(job, &work));
    }
    if let Some(pid) = standing.daemon {
        let kib = rss_anon_kib(pid)?;
        report.figure(contender, round, "RssAnon after work", json!({"kib": kib}))?;
    }
    Ok(())
}

/// A container that asks no machined and no systemd outside.
const CONTAINER: &str = "--quiet --boot --register=no --keep-unit --console=read-only \
    --resolv-conf=off --timezone=off --link-journal=no";

/// It divides the control group that it is started in, which works once.
const OWN_GROUP: &str = "group=/sys/fs/cgroup/boot$$; mkdir $group && echo $$ >$group/cgroup.procs";

/// systemd from its start to multi-user.target, in a container: bench.service says when it is there, and
/// ends it.
fn boot() -> Result<f64> {
    let start = Instant::now();
    let mut nspawn = Command::new("sh")
        .args([
            "-c",
            &format!("{OWN_GROUP}; exec systemd-nspawn {CONTAINER} -D {ROOT} 2>&1"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting systemd-nspawn")?;
    let mut reached = None;
    let mut said = Vec::new();
    for line in BufReader::new(nspawn.stdout.take().context("its output")?).lines() {
        let line = line?;
        if line.contains("bench-reached") {
            reached = Some(start.elapsed().as_secs_f64());
        }
        said.push(line);
    }
    let status = nspawn.wait()?;
    match reached {
        Some(seconds) => Ok(seconds),
        None => bail!("{status}: {}", said.join(" | ")),
    }
}

/// The CPU time of a daemon that nobody asks anything, after a burst that made it spin.
pub(crate) fn idle(report: &Report) -> Result<()> {
    let standing = Contender::Cowroot.set_up()?;
    let pid = standing.daemon.context("its daemon")?;
    sh(&format!(
        "fio --name=burst --filename={} --direct=1 --rw=randread --bs=4k --size=64M --time_based --runtime=1",
        standing.device
    ))?;
    std::thread::sleep(Duration::from_secs(1));
    let before = cpu_us(pid)?;
    std::thread::sleep(Duration::from_secs(5));
    let daemon_us = cpu_us(pid)? - before;
    report.figure(
        Contender::Cowroot,
        0,
        "idle, 5 s",
        json!({"daemon_us": daemon_us}),
    )
}
