//! The end of a root whose init gives nothing back to an initramfs: PID 1 is taken from it.
//!
//! sysvinit executes itself anew when it is told to (`telinit u`), by the path that it was started with. Once another
//! root is below all processes (pivot_root), that path leads to this program; it ends the machine from there, where
//! nothing holds the old root any more.

#![allow(
    clippy::host_endian_bytes,
    reason = "init's requests are in the machine's order"
)]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use sys_mount::MountFlags;

use super::{device, exit};
use crate::cli::Verb;
use crate::media::mount;

/// Where init listens, in the order of its versions; systemd listens there, too, and then gives PID 1 back by itself.
const LISTENS: [&str; 2] = ["/run/initctl", "/dev/initctl"];

/// Tells this program, executed as init, that it is to end the machine, and how. No initramfs has such a file.
const VERB: &str = "/cowroot.verb";

/// How long init may take to execute itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// How this process, if it is the first one, was told to end the machine.
pub(super) fn verb() -> Option<OsString> {
    fs::read(VERB).ok().map(OsString::from_vec)
}

/// End a machine whose root is ours. It returns at once where that is another one.
///
/// # Errors
/// The init is none that can be told, or there is no room for this program in RAM. Nothing has changed then.
pub(super) fn take_back(verb: Verb) -> anyhow::Result<()> {
    let mounts = fs::read("/proc/self/mounts").context("reading the mounts")?;
    if !is_root(&mounts, &device::path()) {
        return Ok(());
    }
    let refused = "taking PID 1 back: the cowfile will be as after a power cut: nothing that was synced is lost";
    let mut init = listening().context(refused)?;
    let home = Path::new(exit::HOME);
    lay_out(home, verb).context(refused)?;
    change_root(home).context(refused)?;
    // From here on there is no way back: whatever fails, the machine must end.
    match init.write_all(&request(b'U')) {
        // The new init ends this process.
        Ok(()) => thread::sleep(PATIENCE),
        Err(error) => log::error!("telling init to execute itself: {error}"),
    }
    log::error!("init did not execute itself anew: ending the machine without it");
    exit::end_machine(Some(OsStr::new(verb.word()))).map(|never| match never {})
}

/// Whether the root, in a /proc/mounts, is on `device`.
fn is_root(mounts: &[u8], device: &Path) -> bool {
    let text = String::from_utf8_lossy(mounts);
    let mut roots = text.lines().filter_map(|line| {
        let (source, rest) = line.split_once(' ')?;
        rest.starts_with("/ ").then(|| source.to_owned())
    });
    roots
        .next_back()
        .is_some_and(|root| Path::new(&root) == device)
}

/// The way to init, if there is one that listens.
fn listening() -> anyhow::Result<File> {
    if Path::new("/run/systemd/system").exists() {
        bail!("systemd gives it back by itself");
    }
    for path in LISTENS {
        let mut options = OpenOptions::new();
        // Without a reader this fails, and does not wait for one.
        let opened = options
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path);
        if let Ok(pipe) = opened
            && pipe
                .metadata()
                .is_ok_and(|found| found.file_type().is_fifo())
        {
            return Ok(pipe);
        }
    }
    bail!(
        "this init is no sysvinit: nobody listens at {}",
        LISTENS.join(" or ")
    )
}

/// A request to init: to go to a runlevel, of which `U` is none (initreq.h: magic, command, runlevel, sleep time and
/// 368 bytes for others).
fn request(runlevel: u8) -> [u8; 384] {
    let mut request = [0; 384];
    let words = [0x0309_1969, 1, i32::from(runlevel), 0_i32];
    let bytes = words.into_iter().flat_map(i32::to_ne_bytes);
    for (place, byte) in request.iter_mut().zip(bytes) {
        *place = byte;
    }
    request
}

/// Make a root of RAM at `home`, in which this program is whatever init was.
fn lay_out(home: &Path, verb: Verb) -> anyhow::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount::filesystem(Path::new("cowroot"), home, "tmpfs", flags, "mode=0755")
        .with_context(|| format!("mounting a tmpfs on '{}'", home.display()))?;
    exit::install(home)?;
    let making = || format!("making a root in '{}'", home.display());
    for folder in ["proc", "sys", "dev", "run", "oldroot", "sbin"] {
        fs::create_dir_all(home.join(folder)).with_context(making)?;
    }
    let verb_file = home.join(VERB.trim_start_matches('/'));
    fs::write(verb_file, verb.word()).with_context(making)?;
    let program = Path::new("/shutdown");
    symlink(program, home.join("sbin/init")).with_context(making)?;
    // Another one may have been named with init=.
    let running = fs::read_link("/proc/1/exe").context("looking for init's program")?;
    let running = home.join(running.strip_prefix("/").unwrap_or(&running));
    if let (false, Some(folder)) = (running.is_symlink(), running.parent()) {
        fs::create_dir_all(folder).with_context(making)?;
        symlink(program, &running).with_context(making)?;
    }
    Ok(())
}

/// Make `home` the root of all processes. If that fails the root is what it was.
fn change_root(home: &Path) -> anyhow::Result<()> {
    let none = None::<&str>;
    let flags = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    nix::mount::mount(none, "/", none, flags, none).context("making all mounts private")?;
    mount::bind(Path::new("/run"), &home.join("run")).context("showing '/run' in the new root")?;
    std::env::set_current_dir(home).context("entering the new root")?;
    nix::unistd::pivot_root(".", "oldroot").context("changing the root")?;
    for name in ["proc", "sys", "dev"] {
        let from = Path::new("/oldroot").join(name);
        if let Err(error) = mount::move_to(&from, &Path::new("/").join(name)) {
            log::warn!("moving '/{name}' into the new root: {error}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_root_on_the_device_is_ours() {
        let device = Path::new("/dev/ublkb0");
        for (mounts, expected) in [
            (
                "rootfs / rootfs rw 0 0\n/dev/ublkb0 / ext4 ro 0 0\nproc /proc proc rw 0 0\n",
                true,
            ),
            (
                "/dev/sda1 / ext4 rw 0 0\n/dev/ublkb0 /mnt ext4 rw 0 0\n",
                false,
            ),
            (
                "/dev/ublkb0 / ext4 rw 0 0\noverlay / overlay rw 0 0\n",
                false,
            ),
            ("/dev/ublkb01 / ext4 rw 0 0\n", false),
            ("", false),
        ] {
            assert_eq!(is_root(mounts.as_bytes(), device), expected, "{mounts}");
        }
    }

    #[test]
    fn a_request_is_as_sysvinit_reads_it() {
        let request = request(b'U');
        assert_eq!(request[..4], 0x0309_1969_i32.to_ne_bytes());
        assert_eq!(request[4..8], 1_i32.to_ne_bytes());
        assert_eq!(request[8..12], 0x55_i32.to_ne_bytes());
        assert!(request[12..].iter().all(|byte| *byte == 0));
    }
}
