//! KVM where it works, emulation elsewhere. See README.md, "KVM": a /dev/kvm that opens is no proof.

use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cache::alone;
use crate::command::command;

/// A kernel under working KVM panics for want of a root in about a second; a /dev/kvm that hangs never does.
const PROBE: Duration = Duration::from_secs(6);

/// What the emulator pretends to be.
const CPU: &str = "max,-monitor,-erms,-fsrm";

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accel {
    Kvm,
    /// One thread for all virtual CPUs, which no CPU's instructions change under another's hands; with as many
    /// machines as cores it is the quicker one, too.
    Tcg,
    /// A thread for each, for measurements.
    TcgThreads,
    /// The same without SSE 4.2, whose instruction for CRC-32C is emulated bit by bit: 64 steps for eight bytes.
    TcgThreadsWithoutCrc,
}

impl Accel {
    /// `$COWROOT_ACCEL`; else emulation in CI, where nobody promises more; else what a short boot shows, once.
    pub(crate) fn choose(vmlinuz: &Path) -> Result<Self> {
        static CHOSEN: OnceLock<Accel> = OnceLock::new();
        alone(|| match CHOSEN.get() {
            Some(chosen) => Ok(*chosen),
            None => Self::look(vmlinuz).map(|found| *CHOSEN.get_or_init(|| found)),
        })
    }

    fn look(vmlinuz: &Path) -> Result<Self> {
        match std::env::var("COWROOT_ACCEL").as_deref() {
            Ok("kvm") => return Ok(Self::Kvm),
            Ok("tcg") => return Ok(Self::Tcg),
            Ok(other) if !other.is_empty() => bail!("COWROOT_ACCEL is kvm or tcg, not '{other}'"),
            _ => {}
        }
        let usable = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok();
        if std::env::var_os("CI").is_some() || !usable {
            return Ok(Self::Tcg);
        }
        if probe(vmlinuz)? {
            return Ok(Self::Kvm);
        }
        eprintln!(
            "vm: /dev/kvm is there, but a short boot with it does not end: emulating (COWROOT_ACCEL=kvm insists)"
        );
        Ok(Self::Tcg)
    }

    /// For measurements, which are alone on the host: its virtual CPUs run at the same time.
    pub(crate) fn with_threads(self) -> Self {
        match self {
            Self::Tcg => Self::TcgThreads,
            other => other,
        }
    }

    /// For measurements where an emulator's own slowness says nothing.
    pub(crate) fn without_slow_crc(self) -> Self {
        match self {
            Self::Tcg | Self::TcgThreads => Self::TcgThreadsWithoutCrc,
            other => other,
        }
    }

    /// What a kernel that QEMU starts is told. It counts a few ticks of its timer, within some hundredths of a second, and
    /// panics if they do not come; on a busy machine an emulator is late. And it keeps data from leaking out of a CPU's
    /// guesses; an emulated one guesses nothing, and a boot of systemd takes a tenth less without.
    pub(crate) fn kernel_word(self) -> &'static str {
        match self {
            Self::Kvm => "",
            _ => " no_timer_check mitigations=off",
        }
    }

    /// QEMU's words for it.
    pub(crate) fn args(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // MONITOR and MWAIT are emulated as doing nothing: an idle CPU would keep a core busy. And
            // "fast" string instructions are emulated byte by byte, so the kernel had better not use them.
            Self::Tcg => ["-accel", "tcg,thread=single", "-cpu", CPU],
            Self::TcgThreads => ["-accel", "tcg,thread=multi", "-cpu", CPU],
            Self::TcgThreadsWithoutCrc => {
                let cpu = "max,-monitor,-erms,-fsrm,-sse4.2";
                ["-accel", "tcg,thread=multi", "-cpu", cpu]
            }
        }
    }
}

/// Boots a kernel that has no root to its panic: does it get there?
fn probe(vmlinuz: &Path) -> Result<bool> {
    let mut child = command("qemu-system-x86_64")
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-m",
            "256",
        ])
        .args(Accel::Kvm.args())
        .args(["-append", "panic=-1", "-kernel"])
        .arg(vmlinuz)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let start = Instant::now();
    while start.elapsed() < PROBE {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    // Not waited for: a process stuck in a broken KVM may not even die. It holds nothing of ours.
    let _still_dying = child.try_wait()?;
    Ok(false)
}
