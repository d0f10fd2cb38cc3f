//! Mounts: a medium so that nothing on it changes, and the few other kinds that a boot needs.

pub(super) mod kinds;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use sys_mount::{Mount, MountFlags, UnmountFlags};

use crate::sys::{self, Attributes};
use kinds::{HARMLESS, Harmless, WRITABLE};

/// Whether what is written to a tmpfs can end on a swap device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// The kernel keeps it in RAM.
    Never,
    /// The kernel is too old for `noswap` (before 6.4).
    Possible,
}

/// The driver that mounts a medium of type `kind`, or `None` if none does so harmlessly.
#[must_use]
pub fn driver(kind: &str) -> Option<&'static str> {
    let harmless = HARMLESS.iter().find(|harmless| harmless.kind == kind)?;
    Some(harmless.driver)
}

/// Refuse every write to `device` from now on.
///
/// Only to what is named, not to the disk around a partition: its neighbour may hold the cowfile.
///
/// # Errors
/// The device cannot be opened, or does not take the order.
pub fn set_read_only(device: &Path) -> anyhow::Result<()> {
    let refusing = || format!("making '{}' read-only", device.display());
    let file = File::open(device).with_context(refusing)?;
    sys::set_block_device_read_only(&file, true).with_context(refusing)
}

/// Mount `device`, which holds a file system of type `kind`, at `target`; nothing is written to it.
///
/// # Errors
/// The type is not one that can be mounted harmlessly, or the kernel's refusal.
pub fn medium(device: &Path, kind: &str, target: &Path) -> anyhow::Result<()> {
    let harmless = HARMLESS.iter().find(|harmless| harmless.kind == kind);
    let Some(harmless) = harmless else {
        let known: Vec<_> = HARMLESS.iter().map(|harmless| harmless.kind).collect();
        bail!(
            "mounting '{}': it holds {kind}, and a base is looked for on {} only",
            device.display(),
            known.join(", ")
        );
    };
    set_read_only(device)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    first_that_is_known(device, harmless, target, flags).map_err(|error| {
        anyhow::anyhow!(
            "mounting '{}' ({kind}) read-only: {error}; {}",
            device.display(),
            advice(&error)
        )
    })
}

/// Mount `device`, which holds a file system of type `kind`, at `target` for the cowfile in it.
///
/// # Errors
/// The type is not one that a cowfile can lie in, or the kernel's refusal.
pub fn writable(device: &Path, kind: &str, target: &Path) -> anyhow::Result<()> {
    for_cowfile(device, kind, target, MountFlags::empty())
}

/// The same for a cowfile that is only read. A journal is replayed, for what was written last may be in it.
///
/// # Errors
/// As `writable`.
pub fn readable(device: &Path, kind: &str, target: &Path) -> anyhow::Result<()> {
    for_cowfile(device, kind, target, MountFlags::RDONLY)
}

fn for_cowfile(device: &Path, kind: &str, target: &Path, how: MountFlags) -> anyhow::Result<()> {
    let row = WRITABLE.iter().find(|row| row.kind == kind);
    let row = row.with_context(|| {
        let known: Vec<_> = WRITABLE.iter().map(|row| row.kind).collect();
        format!(
            "mounting '{}' for the cowfile: it holds {kind}, and a cowfile lies on {} only",
            device.display(),
            known.join(", ")
        )
    })?;
    let flags =
        how | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    first_that_is_known(device, row, target, flags).map_err(|error| {
        anyhow::anyhow!(
            "mounting '{}' ({kind}) for the cowfile: {error}; {}",
            device.display(),
            advice(&error)
        )
    })
}

/// What is done with a medium that is mounted at no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing on it changes, as with [`medium`].
    Harmless,
    /// It is written, as with [`writable`].
    Write,
    /// It could be, so its journal is replayed, but nothing else is done. Whoever has it mounted to be written may go on.
    Read,
}

/// Mount `device`, which holds a file system of type `kind`, at no place: it is seen through the descriptor. Another
/// one of the same UUID may be mounted still, the dead one that this one comes after.
///
/// # Errors
/// The type is not one for that, or the kernel's refusal.
pub fn detached(device: &Path, kind: &str, access: Access) -> anyhow::Result<OwnedFd> {
    let context = || format!("mounting '{}' ({kind})", device.display());
    let rows = match access {
        Access::Harmless => HARMLESS,
        Access::Write | Access::Read => WRITABLE,
    };
    let row = rows.iter().find(|row| row.kind == kind);
    let row = row.with_context(|| format!("{}: not a type for that", context()))?;
    if access == Access::Harmless {
        set_read_only(device)?;
    }
    let source = CString::new(device.as_os_str().as_bytes()).with_context(context)?;
    let (more, attributes) = match access {
        Access::Write => ("", Attributes::PLAIN),
        Access::Harmless | Access::Read => {
            let both = Attributes::PLAIN.0 | Attributes::RDONLY.0;
            ("ro", Attributes(both))
        }
    };
    let twin = if kind == "xfs" { "nouuid" } else { "" };
    let mount = |more: &str| {
        let mut result = Err(io::Error::from_raw_os_error(libc::EINVAL));
        for options in row.options {
            let options = [options, more, twin].join(",");
            result = sys::mount_detached(row.driver, &source, &options, attributes);
            if !is(&result, libc::EINVAL) {
                break;
            }
        }
        result
    };
    let mut result = mount(more);
    if access == Access::Read && is(&result, libc::EBUSY) {
        result = mount("");
    }
    result.map_err(|error| anyhow::anyhow!("{}: {error}; {}", context(), advice(&error)))
}

fn is<T>(result: &io::Result<T>, code: i32) -> bool {
    matches!(result, Err(error) if error.raw_os_error() == Some(code))
}

/// Mount with the first of a row's options that the kernel knows.
pub(super) fn first_that_is_known(
    device: &Path,
    row: &Harmless,
    target: &Path,
    flags: MountFlags,
) -> io::Result<()> {
    let mut result = Ok(());
    for options in row.options {
        result = filesystem(device, target, row.driver, flags, options);
        if !is(&result, libc::EINVAL) {
            break;
        }
    }
    result
}

/// What to do about a mount that the kernel refused.
#[must_use]
pub fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EINVAL) => {
            "it is damaged, or an option is wrong: the kernel's log says which; compare its checksum \
             with the original's"
        }
        Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG) => {
            "it is damaged, or its medium is: compare its checksum with the original's; the kernel's \
             log says more"
        }
        _ => "the kernel's log says more",
    }
}

/// Whether a file system of type `kind` can be written at all.
#[must_use]
pub fn is_writable(kind: &str) -> bool {
    !matches!(kind, "iso9660" | "squashfs" | "erofs")
}

/// Whether a boot mounts file systems of type `kind` to write to them.
#[must_use]
pub fn holds_cowfiles(kind: &str) -> bool {
    WRITABLE.iter().any(|row| row.kind == kind)
}

/// Mount any file system. An empty `options` passes none.
///
/// # Errors
/// The kernel's refusal, or that `target` cannot be made.
pub fn filesystem(
    device: &Path,
    target: &Path,
    driver: &str,
    flags: MountFlags,
    options: &str,
) -> io::Result<()> {
    std::fs::create_dir_all(target)?;
    let mount = Mount::builder().fstype(driver).flags(flags);
    let mount = if options.is_empty() {
        mount
    } else {
        mount.data(options)
    };
    mount.mount(device, target)?;
    Ok(())
}

/// Options as people write them (`noatime,data=ordered`), as the kernel takes them: flags, and the
/// rest for the file system's driver.
#[must_use]
pub fn split_options(options: &str) -> (MountFlags, String) {
    const FLAGS: [(&str, MountFlags); 18] = [
        ("defaults", MountFlags::empty()),
        ("rw", MountFlags::empty()),
        ("suid", MountFlags::empty()),
        ("dev", MountFlags::empty()),
        ("exec", MountFlags::empty()),
        ("atime", MountFlags::empty()),
        ("async", MountFlags::empty()),
        ("ro", MountFlags::RDONLY),
        ("nosuid", MountFlags::NOSUID),
        ("nodev", MountFlags::NODEV),
        ("noexec", MountFlags::NOEXEC),
        ("noatime", MountFlags::NOATIME),
        ("nodiratime", MountFlags::NODIRATIME),
        ("relatime", MountFlags::RELATIME),
        ("strictatime", MountFlags::STRICTATIME),
        ("sync", MountFlags::SYNCHRONOUS),
        ("dirsync", MountFlags::DIRSYNC),
        ("silent", MountFlags::SILENT),
    ];
    let mut flags = MountFlags::empty();
    let mut rest = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match FLAGS.iter().find(|(name, _)| *name == option) {
            Some((_, flag)) => flags |= *flag,
            None => rest.push(option),
        }
    }
    (flags, rest.join(","))
}

/// Mount one of the kernel's own file systems (proc, sysfs, devtmpfs) unless it is there already.
///
/// # Errors
/// The kernel's refusal, or that `target` cannot be made.
pub fn kernels(kind: &str, target: &str, flags: MountFlags, options: &str) -> anyhow::Result<()> {
    match filesystem(Path::new(kind), Path::new(target), kind, flags, options) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        result => result.with_context(|| format!("mounting {kind} on '{target}'")),
    }
}

/// Mount a tmpfs of at most `size_bytes` at `target`, kept from swap where the kernel can do that.
///
/// # Errors
/// The kernel's refusal, or that `target` cannot be made.
pub fn tmpfs(target: &Path, size_bytes: u64) -> anyhow::Result<Swap> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mount = |extra: &str| {
        let options = format!("mode=0700,size={size_bytes}{extra}");
        filesystem(Path::new("cowroot"), target, "tmpfs", flags, &options)
    };
    let (result, swap) = match mount(",noswap") {
        // Only this: any other failure would come again without the option.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (mount(""), Swap::Possible),
        result => (result, Swap::Never),
    };
    result.with_context(|| format!("mounting a tmpfs on '{}'", target.display()))?;
    Ok(swap)
}

/// Put this process into a mount namespace of its own: nothing mounted or unmounted later, here or
/// outside, is seen on the other side.
///
/// # Errors
/// The kernel's refusal.
pub fn private_namespace() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("entering a mount namespace of its own")?;
    // sys-mount keeps propagation for mounts that it made itself.
    let flags = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .context("making all mounts private")?;
    Ok(())
}

/// Move the mount at `from` to `to`.
///
/// # Errors
/// The kernel's refusal.
pub fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    let mount = Mount::builder().fstype("none").flags(MountFlags::MOVE);
    mount.mount(from, to)?;
    Ok(())
}

/// Show the tree at `from` at `to` too.
///
/// # Errors
/// The kernel's refusal.
pub fn bind(from: &Path, to: &Path) -> io::Result<()> {
    let mount = Mount::builder().fstype("none").flags(MountFlags::BIND);
    mount.mount(from, to)?;
    Ok(())
}

/// Unmount `target` at once for everyone who looks for it, and really when its last user is done.
///
/// # Errors
/// The kernel's refusal.
pub fn unmount_lazily(target: &Path) -> io::Result<()> {
    sys_mount::unmount(target, UnmountFlags::DETACH)
}

/// A file as a block device, for as long as `holder` or a mount keeps it.
#[derive(Debug)]
pub struct LoopDevice {
    /// The device's node.
    pub path: PathBuf,
    /// Keeps the device until it is mounted.
    pub holder: File,
}

/// Make `file` a read-only block device.
///
/// # Errors
/// The kernel has no loop driver, or its refusal.
pub fn loop_read_only(file: &Path) -> anyhow::Result<LoopDevice> {
    const ATTEMPTS: u32 = 16;
    let attaching = || format!("making a block device of '{}'", file.display());
    let backing = File::open(file).with_context(attaching)?;
    let control = File::open("/dev/loop-control")
        .context("opening '/dev/loop-control'; this kernel has no loop driver")?;
    let mut last = io::Error::from_raw_os_error(libc::EBUSY);
    for _ in 0..ATTEMPTS {
        let number = sys::loop_free_number(&control).with_context(attaching)?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let holder = File::open(&path).with_context(attaching)?;
        match sys::loop_configure_read_only(&holder, &backing) {
            Ok(()) => return Ok(LoopDevice { path, holder }),
            // Somebody else took it between the two calls.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => last = error,
            Err(error) => return Err(error).with_context(attaching),
        }
    }
    Err(last).with_context(attaching)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_never_replayed_on_a_medium() {
        for (kind, option) in [
            ("ext3", "noload"),
            ("ext4", "noload"),
            ("xfs", "norecovery"),
            ("btrfs", "nologreplay"),
        ] {
            let harmless = HARMLESS.iter().find(|row| row.kind == kind).unwrap();
            for options in harmless.options {
                assert!(options.contains(option), "{kind} mounted with '{options}'");
            }
        }
    }

    #[test]
    fn general_options_become_flags_and_the_rest_goes_to_the_driver() {
        for (options, flags, rest) in [
            ("", MountFlags::empty(), ""),
            ("noatime", MountFlags::NOATIME, ""),
            ("data=ordered", MountFlags::empty(), "data=ordered"),
            (
                "noatime,data=ordered,ro,,x",
                MountFlags::NOATIME | MountFlags::RDONLY,
                "data=ordered,x",
            ),
            ("defaults", MountFlags::empty(), ""),
        ] {
            assert_eq!(split_options(options), (flags, rest.into()), "{options}");
        }
    }

    #[test]
    fn what_cannot_be_mounted_harmlessly_is_refused_naming_what_can() {
        let device = Path::new("/nonexistent/device");
        let error = medium(device, "ntfs", Path::new("/nonexistent/target")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("ntfs") && text.contains("iso9660"), "{text}");
    }
}
