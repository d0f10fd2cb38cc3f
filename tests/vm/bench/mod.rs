//! `make bench`: one VM, one run, cowroot beside those it wants to replace. What is measured is in
//! tests/vm/bench/guest, which runs inside; here are the VM, the boots, and the tables.

mod counts;
mod figures;
pub(crate) mod merge;
mod mergetable;
mod root;
pub(crate) mod stick;
mod sticktable;
mod told;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;

use crate::accel::Accel;
use crate::cases;
use crate::command::run as sh;
use crate::initramfs::{Initramfs, ensure_static};
use crate::media::{Bus, Content, Medium};
use crate::qemu::{Machine, Outcome};
use crate::qmp::Qmp;
use crate::run::Bed;
use figures::Figures;

/// Base and copy, what is written, page cache: all of it in RAM.
const MEMORY_MIB: u32 = 6 << 10;

/// A round takes two minutes on two cores without KVM, and up to three times that on a busy machine.
const MOST_PER_ROUND: Duration = Duration::from_mins(10);

/// Boots from which cowroot's own seconds are taken.
const BOOTS: usize = 3;

/// Measures everything `rounds` times and prints the tables; false if something could not be measured.
pub(crate) fn run(rounds: usize) -> Result<bool> {
    let bed = Bed::open()?;
    let dir = bed.runs.join("bench");
    fs::create_dir_all(&dir)?;
    let booted = Boot {
        part: "run",
        rounds,
        accel: bed.accel.with_threads(),
        media: Vec::new(),
        deadline: MOST_PER_ROUND * u32::try_from(rounds + 1)?,
    }
    .run(&bed, &dir)?;
    let mut figures = Figures::read(&booted.outcome.report)?;
    for note in booted.notes {
        figures.told.note(note);
    }
    figures.told.note(host());
    own_seconds(&bed, &mut figures)?;
    print(&figures.markdown(), &dir, booted.outcome.stuck)?;
    Ok(figures.told.whole())
}

/// The tables, and why the VM did not end by itself, if so.
fn print(tables: &str, dir: &Path, stuck: Option<String>) -> Result<()> {
    let file = dir.join("table.md");
    fs::write(&file, tables)?;
    println!("{tables}\nbench: in '{}' too", file.display());
    if let Some(stuck) = stuck {
        println!("bench: {stuck}");
    }
    Ok(())
}

/// The bench's VM, for one of its parts.
struct Boot {
    /// The word that tests/vm/bench/guest is started with.
    part: &'static str,
    rounds: usize,
    accel: Accel,
    /// Media besides the one with base and tools.
    media: Vec<(Medium, PathBuf)>,
    deadline: Duration,
}

/// What came of it.
struct Booted {
    outcome: Outcome,
    notes: Vec<String>,
}

impl Boot {
    fn run(self, bed: &Bed, dir: &Path) -> Result<Booted> {
        let guest = std::env::var_os("COWROOT_BENCH").map(PathBuf::from);
        let guest =
            guest.context("COWROOT_BENCH does not name the bench's program; `make bench` does")?;
        ensure_static(&guest, "`make bench` makes a static one")?;
        let kernel = bed.kernel(crate::apt::SUITE)?;
        let tools = root::medium(&bed.cache, &bed.apt, &bed.binary, &guest)?;
        let medium = Medium {
            content: Content::Random(0),
            bus: Bus::Disk,
            throttle: None,
        };
        // Read-only in the guest, and never written by it.
        let mut media = vec![(medium, tools)];
        media.extend(self.media);
        let machine = Machine {
            accel: self.accel,
            memory_mib: MEMORY_MIB,
            memory_at_once: true,
            cut: None,
            firmware: None,
            vmlinuz: kernel.vmlinuz.clone(),
            initramfs: Initramfs::Bench.get(&bed.cache, &kernel, &bed.binary)?,
            words: format!(
                "console=ttyS0 panic=1 cowtest=bench part={} bench={}",
                self.part, self.rounds
            ),
            media,
            network: None,
        };
        let monitor = dir.join("qmp");
        let _absent = fs::remove_file(&monitor);
        let pinning = thread::spawn(move || pin(&monitor));
        let outcome = machine.run(dir, self.deadline)?;
        let pinned = pinning
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the pinning thread panicked")));
        let binary = format!("binary: {} bytes", fs::metadata(&bed.binary)?.len());
        let pinned = match pinned {
            Ok(cpus) => format!(
                "{cpus} virtual CPUs, each pinned to a core; {:?}",
                self.accel
            ),
            Err(error) => format!("NOT PINNED ({error:#}): figures at depth 1 mean nothing"),
        };
        Ok(Booted {
            outcome,
            notes: vec![binary, pinned],
        })
    }
}

/// Each virtual CPU on a core of its own: their number. Without that two of them share one while another
/// idles, and how long a wake-up takes is chance.
fn pin(monitor: &Path) -> Result<usize> {
    let cpus = (0..100).find_map(|_| {
        thread::sleep(Duration::from_millis(100));
        Qmp::connect(monitor)
            .and_then(|mut qmp| qmp.call("query-cpus-fast", &json!({})))
            .ok()
    });
    let cpus = cpus.context("asking QEMU for its CPUs' threads")?;
    let cpus = cpus.as_array().cloned().unwrap_or_default();
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cores: Vec<usize> = (0..CpuSet::count())
        .filter(|core| allowed.is_set(*core).unwrap_or(false))
        .collect();
    ensure!(
        cpus.len() <= cores.len(),
        "{} virtual CPUs on {} cores",
        cpus.len(),
        cores.len()
    );
    for (cpu, core) in cpus.iter().zip(cores) {
        let thread = cpu
            .pointer("/thread-id")
            .and_then(serde_json::Value::as_i64);
        let mut one = CpuSet::new();
        one.set(core)?;
        sched_setaffinity(
            Pid::from_raw(i32::try_from(thread.context("a CPU's thread")?)?),
            &one,
        )?;
    }
    Ok(cpus.len())
}

/// Boots a live Debian and takes from the kernel's log how long cowroot was init.
fn own_seconds(bed: &Bed, figures: &mut Figures) -> Result<()> {
    let case = cases::all()
        .into_iter()
        .find(|case| case.name == "bare disk multi-user-long");
    let case = case.context("finding the boot to measure")?;
    for _ in 0..BOOTS {
        let outcome = bed.run(&case)?;
        let at = |text: &str| {
            let line = outcome.console.iter().find(|l| l.contains(text))?;
            let stamp = line.trim_start().strip_prefix('[')?.split(']').next()?;
            stamp.trim().parse::<f64>().ok()
        };
        let (began, ended) = (
            at("Run /init as init process"),
            at("cowroot[1]: starting '"),
        );
        let seconds = began.zip(ended).map(|(began, ended)| ended - began);
        figures.boot(seconds.context("finding cowroot's begin and end on the console")?);
    }
    Ok(())
}

/// What the figures were made on.
fn host() -> String {
    let said = |program: &str, args: &[&str]| sh(program, args).unwrap_or_default();
    let cpu = said("lscpu", &[]);
    let model = cpu.lines().find_map(|l| l.strip_prefix("Model name:"));
    let root = env!("CARGO_MANIFEST_DIR");
    let commit = said("git", &["-C", root, "describe", "--always", "--dirty"]);
    let qemu = said("qemu-system-x86_64", &["--version"]);
    let qemu = qemu.lines().next().unwrap_or_default();
    format!(
        "host: {}, {} cores; {qemu}; commit {}; {}",
        model.unwrap_or("?").trim(),
        thread::available_parallelism().map_or(0, usize::from),
        commit.trim(),
        said("date", &["-u", "+%F %H:%M UTC"]).trim()
    )
}
