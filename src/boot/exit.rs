//! The end of a machine whose root is ours: what a boot prepares for it, and what is done then.
//!
//! systemd gives PID 1 back to the initramfs when all is stopped: it makes /run/initramfs the root, with the old one
//! at /oldroot, and executes /shutdown there (systemd.io/INITRD_INTERFACE). That is this program. Where dracut brings
//! a /shutdown of its own, its hook calls [`let_go`].

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::mount::MsFlags;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::Pid;
use sys_mount::{MountFlags, UnmountFlags};

use super::{console, device, early};
use crate::daemon::detach;
use crate::daemon::protocol::{self, Answer, Question};
use crate::kmsg;
use crate::media::mount;

/// Where the initramfs's part of a shutdown lies.
pub(super) const HOME: &str = "/run/initramfs";

/// How long processes have to end, when asked and when told.
const ENDING: Duration = Duration::from_secs(5);

/// How long one unmount or sync may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where media are mounted, for everybody to see.
const MEDIA: &str = "/run/cowroot/";

/// What stays mounted to the end.
const KERNELS: [&str; 5] = ["/", "/proc", "/sys", "/dev", "/run"];

/// What holds nothing that could be lost.
const IN_RAM: [&str; 8] = [
    "proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "ramfs", "cgroup2", "mqueue",
];

/// Leave this program where systemd looks for it at the end. Without it the root is only made read-only then, and
/// the cowfile is left as after a power cut.
pub(super) fn prepare() {
    if let Err(error) = install(Path::new(HOME)) {
        log::warn!(
            "preparing the shutdown: {error:#}; it will be as a power cut after the last sync: nothing that was synced is \
             lost"
        );
    }
    if let Err(error) = spare(Path::new("/run/sendsigs.omit.d"), device::ID) {
        log::warn!("preparing the shutdown: sparing the daemon: {error:#}");
    }
}

/// Tell Debian's sysvinit, whose killall5 knows nothing of '@', whom to leave alone: initscripts' sendsigs reads the
/// numbers in this folder. A worker that came later is killed, and its supervisor starts another one.
fn spare(folder: &Path, id: u32) -> anyhow::Result<()> {
    let answer = protocol::ask(id, &Question::Status)?;
    let Some(Answer::Status(report)) = answer else {
        return Ok(());
    };
    fs::create_dir_all(folder)?;
    let supervisor = report.recovery.supervisor.unwrap_or(report.pid);
    fs::write(
        folder.join("cowroot"),
        format!("{}\n{supervisor}\n", report.pid),
    )?;
    Ok(())
}

/// Leave this program in `home`, from where it can be executed.
pub(super) fn install(home: &Path) -> anyhow::Result<()> {
    let making = || format!("making '{}'", home.display());
    fs::create_dir_all(home).with_context(making)?;
    let flags = statvfs(home).with_context(making)?.flags();
    if flags.contains(FsFlags::ST_NOEXEC) {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount::filesystem(Path::new("cowroot"), home, "tmpfs", flags, "mode=0755")
            .with_context(|| format!("mounting a tmpfs on '{}'", home.display()))?;
    }
    let (program, part) = (home.join("shutdown"), home.join(".shutdown.part"));
    let copying = || format!("copying this program to '{}'", program.display());
    fs::copy("/proc/self/exe", &part).with_context(copying)?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).with_context(copying)?;
    fs::rename(&part, &program).with_context(copying)
}

/// End the machine: processes, mounts, devices, and then what `verb` says, whatever fails on the way.
pub(super) fn end_machine(verb: Option<&OsStr>) -> anyhow::Result<Infallible> {
    let kernels = early::mount_kernels();
    early::open_console();
    kmsg::init(kmsg::Reader::Kernel, false);
    if let Err(error) = kernels {
        log::warn!("shutting down: {error:#}");
    }
    end_processes();
    unmount_all();
    if let Err(error) = let_go() {
        log::error!("shutting down: {error:#}");
    }
    let _ = within(nix::unistd::sync);
    let mode = match verb.and_then(OsStr::to_str) {
        Some("poweroff") => RebootMode::RB_POWER_OFF,
        Some("halt") => RebootMode::RB_HALT_SYSTEM,
        Some("kexec") => RebootMode::RB_KEXEC,
        _ => RebootMode::RB_AUTOBOOT,
    };
    for mode in [mode, RebootMode::RB_AUTOBOOT, RebootMode::RB_HALT_SYSTEM] {
        match reboot(mode) {
            Ok(never) => match never {},
            Err(error) => log::error!("shutting down ({mode:?}): {error}"),
        }
    }
    // PID 1 must not end: the kernel would panic.
    loop {
        thread::park();
    }
}

/// Commit and detach all devices, and say that their media are free.
///
/// # Errors
/// A device stays: it is still used, or its last commit failed.
pub(super) fn let_go() -> anyhow::Result<()> {
    let detached = detach::all().context(
        "a device stays, and its cowfile is as after a power cut: nothing that was synced is lost",
    );
    unmount_media();
    if detached? > 0 {
        // Not the log: `quiet` would hide it.
        console::say("the session is closed, and its media are free: they can be taken out now.");
        console::drain();
    }
    Ok(())
}

/// Unmount what everybody sees of the media; under which root it is depends on who brought us here.
pub(super) fn unmount_media() {
    let ours = |mounted: &Mounted| mounted.place.to_string_lossy().contains(MEDIA);
    for Mounted { place, .. } in mounts().iter().rev().filter(|mounted| ours(mounted)) {
        unmount(place);
    }
}

/// End whoever is left, but for storage daemons, whose names begin with '@' (systemd.io/ROOT_STORAGE_DAEMONS).
fn end_processes() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let deadline = Instant::now() + ENDING;
        for process in processes() {
            // It may have ended meanwhile.
            let _ = kill(process, signal);
        }
        while !processes().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// All but this one, the kernel's threads, zombies and storage daemons.
fn processes() -> Vec<Pid> {
    let own = nix::unistd::getpid().as_raw();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != 1 && *pid != own && cmdline.first().is_some_and(|first| *first != b'@')
    })
    .map(Pid::from_raw)
    .collect()
}

/// Unmount all that can be, the latest first; what cannot is made read-only.
fn unmount_all() {
    let mut before = usize::MAX;
    loop {
        let mounted = mounts();
        if mounted.is_empty() || mounted.len() >= before {
            break;
        }
        before = mounted.len();
        for Mounted { place, kind } in mounted.iter().rev() {
            // What is only in RAM may be in use: there is nothing to lose, and something below it may be waiting.
            if IN_RAM.contains(&kind.as_str()) {
                unmount_lazily(place);
            } else {
                unmount(place);
            }
        }
    }
    for Mounted { place, .. } in mounts() {
        log::warn!("'{}' is still in use: making it read-only", place.display());
        let owned = place.clone();
        let remounted = within(move || {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            let none = None::<&str>;
            nix::mount::mount(none, &owned, none, flags, none)
        });
        match remounted {
            Some(Ok(())) => {}
            Some(Err(error)) => log::warn!("making '{}' read-only: {error}", place.display()),
            None => log::warn!("making '{}' read-only: still waiting", place.display()),
        }
    }
}

fn unmount(place: &Path) {
    let owned = place.to_owned();
    let done = within(move || sys_mount::unmount(&owned, UnmountFlags::empty()));
    match done {
        Some(Ok(())) => {}
        Some(Err(error)) => log::debug!("unmounting '{}': {error}", place.display()),
        None => {
            log::warn!(
                "unmounting '{}': still waiting after {} s, going on without it",
                place.display(),
                PATIENCE.as_secs()
            );
            unmount_lazily(place);
        }
    }
}

fn unmount_lazily(place: &Path) {
    let place = place.to_owned();
    let _ = within(move || mount::unmount_lazily(&place));
}

/// What `act` comes to, if that does not take too long: what waits for a server that has gone waits for ever.
fn within<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (told, hear) = mpsc::channel();
    let acting = thread::Builder::new().spawn(move || {
        let _ = told.send(act());
    });
    acting.ok()?;
    hear.recv_timeout(PATIENCE).ok()
}

/// A file system that is to be unmounted.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    place: PathBuf,
    kind: String,
}

fn mounts() -> Vec<Mounted> {
    let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts = read(&text);
    mounts.retain(|mounted| {
        !KERNELS
            .iter()
            .any(|kernels| mounted.place == Path::new(kernels))
    });
    mounts
}

/// The mounts in a mountinfo (proc_pid_mountinfo(5)): the mount point is its fifth field, with blanks and the like in
/// octal; the type follows a lone hyphen.
fn read(mountinfo: &[u8]) -> Vec<Mounted> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let mounts = lines.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let place = unescaped(fields.nth(4)?).into();
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        let kind = String::from_utf8_lossy(kind).into_owned();
        Some(Mounted { place, kind })
    });
    mounts.collect()
}

fn unescaped(mut field: &[u8]) -> std::ffi::OsString {
    let mut bytes = Vec::with_capacity(field.len());
    while let [first, rest @ ..] = field {
        let octal = match field {
            [b'\\', digits @ ..] => digits
                .get(..3)
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| u8::from_str_radix(digits, 8).ok()),
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        field = match octal {
            Some(_) => field.get(4..).unwrap_or_default(),
            None => rest,
        };
    }
    std::ffi::OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let text = b"22 1 0:21 / /proc rw - proc proc rw\n\
            31 1 8:1 / /oldroot/a\\040b rw,relatime shared:1 - ext4 /dev/x rw\n\
            32 1 8:1 / /back\\134slash\\1 rw - ext4 /dev/x rw\n\n";
        let expected = [
            ("/proc", "proc"),
            ("/oldroot/a b", "ext4"),
            ("/back\\slash\\1", "ext4"),
        ];
        let expected = expected.map(|(place, kind)| Mounted {
            place: place.into(),
            kind: kind.into(),
        });
        assert_eq!(read(text), expected);
    }

    #[test]
    fn the_program_is_left_where_it_is_looked_for() {
        let home = tempfile::tempdir().unwrap();
        install(&home.path().join("initramfs")).unwrap();
        let program = home.path().join("initramfs/shutdown");
        let found = fs::metadata(&program).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o755);
        assert_eq!(found.len(), fs::metadata("/proc/self/exe").unwrap().len());
    }
}
