//! Raw speed, with fio: direct I/O through libaio, each job a fio of its own so that the server's CPU time
//! can be told job by job.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::contender::{Contender, ROOT};
use crate::shell::{Report, cpu_us, rss_anon_kib, sh};

/// What is done to the device, and where. Offsets and sizes are MiB.
struct Job {
    name: &'static str,
    rw: &'static str,
    block: &'static str,
    depth: u32,
    jobs: u32,
    offset: u32,
    size: u32,
    /// First touch writes its stretch once, however long it takes; all else takes [`SECONDS`].
    once: bool,
}

/// Long enough to say something, short enough for many rounds.
const SECONDS: &str = "900ms";

const fn job(name: &'static str, rw: &'static str, block: &'static str, depth: u32) -> Job {
    Job {
        name,
        rw,
        block,
        depth,
        jobs: 1,
        offset: 448,
        size: 512,
        once: false,
    }
}

/// In this order: the stretch that is only read comes first, and the mix, which writes there, last.
const JOBS: [Job; 10] = [
    job("read 4k depth 1", "randread", "4k", 1),
    job("read 4k depth 32", "randread", "4k", 32),
    job("read 128k sequential", "read", "128k", 4),
    Job {
        offset: 0,
        size: 24,
        once: true,
        ..job("write 4k depth 1, first", "randwrite", "4k", 1)
    },
    Job {
        offset: 0,
        size: 24,
        ..job("write 4k depth 1, again", "randwrite", "4k", 1)
    },
    Job {
        offset: 32,
        size: 96,
        once: true,
        ..job("write 4k depth 32, first", "randwrite", "4k", 32)
    },
    Job {
        offset: 32,
        size: 96,
        ..job("write 4k depth 32, again", "randwrite", "4k", 32)
    },
    Job {
        offset: 160,
        size: 256,
        once: true,
        ..job("write 128k sequential, first", "write", "128k", 4)
    },
    Job {
        offset: 160,
        size: 256,
        ..job("write 128k sequential, again", "write", "128k", 4)
    },
    Job {
        jobs: 8,
        ..job("mixed 4k, 8 jobs depth 4", "randrw", "4k", 4)
    },
];

/// All jobs on a fresh device.
pub(crate) fn measure(contender: Contender, round: usize, report: &Report) -> Result<()> {
    let standing = contender.set_up()?;
    // On overlayfs there is only a file to work on. Its first write copies all of it; that is at open and
    // not in these figures, but in those of the byte that is changed.
    let target = match standing.device.as_str() {
        "" => format!("{ROOT}/opt/big"),
        device => device.to_owned(),
    };
    for job in &JOBS {
        let cpu = |pid: Option<u32>| pid.map(cpu_us).transpose();
        let before = cpu(standing.daemon)?;
        let mut figures = run(job, &target).with_context(|| job.name.to_owned())?;
        if let (Some(before), Some(after)) = (before, cpu(standing.daemon)?)
            && let Some(figures) = figures.as_object_mut()
        {
            figures.insert("daemon_us".into(), json!(after - before));
        }
        report.figure(contender, round, job.name, figures)?;
    }
    if let Some(pid) = standing.daemon {
        let kib = rss_anon_kib(pid)?;
        report.figure(contender, round, "RssAnon after fio", json!({"kib": kib}))?;
    }
    Ok(())
}

fn run(job: &Job, target: &str) -> Result<Value> {
    let Job {
        rw,
        block,
        depth,
        jobs,
        offset,
        size,
        ..
    } = job;
    let until = if job.once {
        String::new()
    } else {
        format!("--time_based --runtime={SECONDS}")
    };
    let line = format!(
        "fio --output-format=json --name=job --filename={target} --direct=1 --ioengine=libaio \
         --rw={rw} --rwmixread=70 --bs={block} --iodepth={depth} --numjobs={jobs} --group_reporting \
         --thread --offset={offset}M --size={size}M {until} --invalidate=0 --norandommap={} \
         --random_generator=lfsr --fallocate=none --allow_file_create=0",
        u8::from(!job.once)
    );
    let said = sh(&line)?;
    let start = said.find('{').context("fio printed no JSON")?;
    let parsed: Value = serde_json::from_str(said.get(start..).unwrap_or_default())?;
    let number = |path: &str| {
        parsed
            .pointer(path)
            .and_then(Value::as_f64)
            .unwrap_or_default()
    };
    let sum = |field: &str| {
        number(&format!("/jobs/0/read/{field}")) + number(&format!("/jobs/0/write/{field}"))
    };
    let direction = if job.rw.ends_with("write") {
        "write"
    } else {
        "read"
    };
    Ok(json!({
        "per_s": sum("iops"),
        "requests": sum("total_ios"),
        "p50_ns": number(&format!("/jobs/0/{direction}/clat_ns/percentile/50.000000")),
        "p99_ns": number(&format!("/jobs/0/{direction}/clat_ns/percentile/99.000000")),
    }))
}
