//! What PID 1 of a bare initramfs must do before anything else, and what it does when it fails.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use sys_mount::MountFlags;

use crate::media::mount;

/// Mount the kernel's own file systems, where they are not mounted yet.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn mount_kernels() -> anyhow::Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount::kernels("proc", "/proc", quiet, "")?;
    mount::kernels("sysfs", "/sys", quiet, "")?;
    mount::kernels("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755")
}

/// Mount them and a /run, and let the log have all that is said.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn prepare() -> anyhow::Result<()> {
    mount_kernels()?;
    fs::create_dir_all("/run").context("making '/run'")?;
    if device_of("/run")? == device_of("/")? {
        // Not noexec: the root's shutdown may run programs from /run/initramfs.
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount::filesystem(
            Path::new("run"),
            Path::new("/run"),
            "tmpfs",
            flags,
            "mode=0755,size=20%",
        )
        .context("mounting a tmpfs on '/run'")?;
    }
    // Else the kernel drops all but ten lines in five seconds, and a list of media is longer. Where
    // the command line has fixed the choice it stays. Without the newline it is refused.
    let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    Ok(())
}

/// Have the kernel freeze the file systems before it freezes processes for sleep (Linux 6.16).
///
/// The daemon is a process and frozen with the others, often as the first. Who then waits for the root
/// to take a write cannot be frozen, and the machine does not sleep; with this it waits for the file
/// system, and can.
pub(super) fn prepare_for_sleep() {
    if let Err(error) = fs::write("/sys/power/freeze_filesystems", "1") {
        log::debug!("having file systems frozen for sleep: {error}");
    }
}

fn device_of(path: &str) -> anyhow::Result<u64> {
    let found = fs::metadata(path).with_context(|| format!("looking at '{path}'"))?;
    Ok(found.dev())
}

/// Give init and a shell a terminal, if the kernel could not: /dev/console may have been missing.
pub(super) fn open_console() {
    let stdin = fs::read_link("/proc/self/fd/0").unwrap_or_default();
    if stdin != Path::new("/dev/null") {
        return;
    }
    let console = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/console");
    // A machine without a console boots all the same.
    if let Ok(console) = console {
        let _ = dup2_all(&console);
    }
}

fn dup2_all(console: &File) -> nix::Result<()> {
    dup2_stdin(console)?;
    dup2_stdout(console)?;
    dup2_stderr(console)
}

/// PID 1 cannot go on: say why, offer a shell if there is one, and leave the rest to `panic=`.
pub(super) fn give_up(error: &anyhow::Error) -> ! {
    const SHELL: &str = "/bin/sh";
    if Path::new(SHELL).exists() {
        log::error!(
            "{error:#}\nstarting a shell; when it ends the kernel panics, and restarts if panic= \
             says so"
        );
        if let Err(error) = Command::new(SHELL).status() {
            log::error!("starting '{SHELL}': {error}");
        }
    } else {
        log::error!(
            "{error:#}\nno shell in this initramfs: the kernel panics now, and restarts if panic= \
             says so"
        );
    }
    // The kernel takes the end of PID 1 for a panic.
    std::process::exit(1)
}
