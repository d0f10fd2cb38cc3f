//! The initramfs entry: from the kernel command line to a running root.
//!
//! [`run`] is the story; each chapter is a file beside this one.

pub mod cmdline;
mod early;
pub mod modules;
mod reach;
pub mod switch;

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::statvfs::statvfs;
use sys_mount::MountFlags;

use self::cmdline::{Plan, RootWords};
use self::modules::Modules;
use self::reach::Reached;
use crate::daemon::protocol::{self, Answer, Question};
use crate::daemon::{self, Attached};
use crate::kmsg;
use crate::media::open::Durability;
use crate::media::{mount, text};
use crate::ublk;

/// Where the root is mounted before it becomes `/`.
const SYSROOT: &str = "/sysroot";

/// How long the node of a device that is being served may take to appear.
const NODE_WAIT: Duration = Duration::from_secs(10);

/// What makes a root tell which of its blocks are free again, at once: the cowfile is RAM, and whoever
/// deletes files wants it back without knowing of fstrim. f2fs does so by itself.
///
/// btrfs: each of its commits writes its trees anew elsewhere. The default, async, gives the old ones
/// back minutes later: a full cowfile's reserve is used up by then, and the root read-only (measured).
const DISCARD: [(&str, &str); 3] = [
    ("ext4", "discard"),
    ("xfs", "discard"),
    ("btrfs", "discard=sync"),
];

/// Whether the kernel started this process as the initramfs's `/init`.
#[must_use]
pub fn is_init() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    is_first_process() && Path::new(&name).file_name() == Some("init".as_ref())
}

fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Boot this machine: returns only if it is not PID 1 that asks.
///
/// The kernel's words are read from `cmdline`, or from /proc/cmdline.
///
/// # Errors
/// This process is not PID 1. Any other failure is logged and ends in a shell or a panic.
pub fn run(cmdline: Option<&Path>) -> anyhow::Result<Infallible> {
    if !is_first_process() {
        bail!(
            "booting: only PID 1 of an initramfs can do that; 'cowroot explain' says what it \
             would do"
        );
    }
    match boot(cmdline) {
        Ok(never) => Ok(never),
        Err(error) => early::give_up(&error),
    }
}

fn boot(cmdline: Option<&Path>) -> anyhow::Result<Infallible> {
    let started = Instant::now();
    let prepared = early::mount_kernels();
    early::open_console();
    let plan = prepared.and_then(|()| read_plan(cmdline));
    let debug = plan.as_ref().is_ok_and(|plan| plan.debug);
    kmsg::init(kmsg::Reader::Kernel, debug);
    let plan = plan?;
    log::info!(
        "version {}: base '{}', writes go to {}",
        env!("CARGO_PKG_VERSION"),
        plan.base,
        plan.cow
    );

    let mut modules = Modules::open()?;
    load_ublk(&modules)?;
    let base = reach::reach(&plan, &mut modules)?;
    let kind = root_kind(&plan.root, &base)?;

    let options = daemon::Options {
        base: base.path.clone(),
        cow: plan.cow.clone(),
        durability: Durability::Flush,
        id: None,
        size_bytes: None,
        read_only: false,
    };
    let attached = thread::scope(|scope| {
        // Loading the root's driver takes as long as starting the daemon. If it fails, mounting says so.
        let load = || {
            kind.split(',')
                .next()
                .map(|kind| modules.load_filesystem(kind))
        };
        let _without = thread::Builder::new().spawn_scoped(scope, load);
        daemon::launch(&options)
    })?;
    let device = attached.device();
    wait_for_node(&device)?;
    mount_root(&device, &kind, &plan.root, &modules)?;

    let sysroot = Path::new(SYSROOT);
    warn_of_promises(sysroot, &attached);
    let init = switch::find_init(sysroot, plan.root.init.as_deref())?;
    switch::prepare(sysroot)?;
    warn_without_modules(sysroot);
    early::prepare_for_sleep();
    log::info!(
        "starting '{}' after {:.1} s",
        init.display(),
        started.elapsed().as_secs_f32()
    );
    switch::switch_root(sysroot, &init, &init_args(&plan.root))
}

fn read_plan(cmdline: Option<&Path>) -> anyhow::Result<Plan> {
    let path = cmdline.unwrap_or(Path::new("/proc/cmdline"));
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the kernel command line from '{}'", path.display()))?;
    Ok(Plan::parse(&text)?)
}

/// Load the driver of the device that will be served, unless it is there.
///
/// # Errors
/// There is no such module for this kernel, or the kernel refused it.
pub fn load_ublk(modules: &Modules) -> anyhow::Result<()> {
    if !Path::new(ublk::CONTROL).exists() {
        modules
            .load("ublk_drv")
            .context("serving a root needs ublk (Linux 6.9 and later, CONFIG_BLK_DEV_UBLK)")?;
    }
    let deadline = Instant::now() + NODE_WAIT;
    while !Path::new(ublk::CONTROL).exists() {
        if Instant::now() >= deadline {
            bail!(
                "loading module 'ublk_drv': it made no '{}'; the kernel's log says more",
                ublk::CONTROL
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The driver for the root: what `rootfstype=` says, else what is recognised.
fn root_kind(words: &RootWords, base: &Reached) -> anyhow::Result<String> {
    let looking = || {
        format!(
            "looking for a root file system in the base '{}'",
            base.path.display()
        )
    };
    let found = base.content.as_ref().map(|content| content.kind);
    match (&words.kind, found) {
        (_, Some(found)) if !mount::is_writable(found) && !words.read_only => bail!(
            "{}: it holds {found}, which cannot be written; take an image of ext4, XFS or btrfs, \
             which may lie in this one (<image>!<path>), or say ro",
            looking()
        ),
        (Some(kind), _) => Ok(kind.clone()),
        (None, Some(found)) => mount::driver(found).map(Into::into).with_context(|| {
            format!(
                "{}: it holds {found}, which is none; name another base",
                looking()
            )
        }),
        (None, None) => bail!(
            "{}: none is recognised; is it the file that was meant, is it damaged, or encrypted? \
             rootfstype= names one that cowroot does not know",
            looking()
        ),
    }
}

fn wait_for_node(device: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + NODE_WAIT;
    while !device.exists() {
        if Instant::now() >= deadline {
            bail!(
                "waiting for '{}': not there after {} s; the kernel's log says more",
                device.display(),
                NODE_WAIT.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Mount the root as the first of `kinds` (one, or several with commas, as rootfstype= takes them)
/// that fits.
fn mount_root(
    device: &Path,
    kinds: &str,
    words: &RootWords,
    modules: &Modules,
) -> anyhow::Result<()> {
    let mut result = Ok(());
    for kind in kinds.split(',') {
        result = modules
            .load_filesystem(kind)
            .and_then(|()| mount_as(device, kind, words));
        if result.is_ok() {
            break;
        }
    }
    result
}

fn mount_as(device: &Path, kind: &str, words: &RootWords) -> anyhow::Result<()> {
    let options = words.options.as_deref().unwrap_or_default();
    let (mut flags, rest) = mount::split_options(options);
    let rest = with_discard(kind, rest);
    if words.read_only {
        flags |= MountFlags::RDONLY;
    }
    let access = if flags.contains(MountFlags::RDONLY) {
        "read-only"
    } else {
        "writable"
    };
    mount::filesystem(device, Path::new(SYSROOT), kind, flags, &rest).map_err(|error| {
        anyhow::anyhow!(
            "mounting the root '{}' ({kind}, {access}{}{options}): {error}; {}",
            device.display(),
            if options.is_empty() { "" } else { ", " },
            mount::advice(&error)
        )
    })?;
    log::info!("root '{}' mounted: {kind}, {access}", device.display());
    Ok(())
}

/// Add to the driver's options that it discards, unless they say something about it.
fn with_discard(kind: &str, mut options: String) -> String {
    let discard = DISCARD.iter().find(|(driver, _)| *driver == kind);
    if let Some((_, discard)) = discard
        && !options.contains("discard")
    {
        options.push_str(if options.is_empty() { "" } else { "," });
        options.push_str(discard);
    }
    options
}

/// The root counts the free blocks of its base; what the cowfile can take is another matter.
fn warn_of_promises(sysroot: &Path, attached: &Attached) {
    let answer = protocol::ask(attached.id, &Question::Status);
    let (Ok(Some(Answer::Status(report))), Ok(root)) = (answer, statvfs(sysroot)) else {
        return;
    };
    #[allow(
        clippy::useless_conversion,
        reason = "both are narrower on other targets"
    )]
    let promised = u64::from(root.blocks_available()).saturating_mul(root.fragment_size().into());
    let (cow, is_read_only) = (report.cow, report.read_only);
    let for_data = cow.capacity_bytes.saturating_sub(cow.reserve_bytes);
    let room = for_data.saturating_sub(cow.used_bytes);
    if promised > room && !is_read_only {
        log::warn!(
            "df will show {} free, but the cowfile takes {} of data at most: after that, writes fail with 'no space left'",
            text::size(promised),
            text::size(room)
        );
    }
}

/// A root made for another kernel boots, and then lacks half its drivers.
fn warn_without_modules(sysroot: &Path) {
    let Ok(kernel) = nix::sys::utsname::uname() else {
        return;
    };
    let release = kernel.release();
    let has_modules = ["/lib/modules", "/usr/lib/modules"]
        .iter()
        .any(|folder| switch::resolve_inside(sysroot, &Path::new(folder).join(release)).is_some());
    if !has_modules {
        log::warn!(
            "the root has no modules for the running kernel {}: drivers that the initramfs has not \
             loaded stay missing; install that kernel's modules in the base, or boot the kernel that \
             it has",
            release.to_string_lossy()
        );
    }
}

/// As /init the kernel has given us what is meant for init; else it is what follows `--`.
fn init_args(words: &RootWords) -> Vec<OsString> {
    if is_init() {
        std::env::args_os().skip(1).collect()
    } else {
        words.init_args.iter().map(OsString::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::probe::Content;

    #[test]
    fn the_root_is_mounted_by_what_is_said_or_else_by_what_is_found() {
        let base = |kind: Option<&'static str>| Reached {
            path: "/base".into(),
            size_bytes: 1,
            content: kind.map(|kind| Content {
                kind,
                label: None,
                uuid: None,
            }),
        };
        let words = |kind: Option<&str>| RootWords {
            kind: kind.map(str::to_owned),
            ..RootWords::default()
        };
        for (said, found, expected) in [
            (None, Some("ext2"), Some("ext4")),
            (None, Some("xfs"), Some("xfs")),
            (Some("ext2"), Some("ext4"), Some("ext2")),
            (Some("bcachefs"), None, Some("bcachefs")),
            (Some("ntfs3"), Some("ntfs"), Some("ntfs3")),
            (None, Some("crypto_LUKS"), None),
            (None, Some("squashfs"), None),
            (Some("squashfs"), Some("squashfs"), None),
            (None, None, None),
        ] {
            let kind = root_kind(&words(said), &base(found)).ok();
            assert_eq!(kind.as_deref(), expected, "{said:?} {found:?}");
        }
        let read_only = RootWords {
            read_only: true,
            ..RootWords::default()
        };
        let kind = root_kind(&read_only, &base(Some("squashfs"))).unwrap();
        assert_eq!(kind, "squashfs", "who says ro may have it");
    }

    #[test]
    fn the_root_discards_unless_its_options_say_something_about_it() {
        for (kind, options, expected) in [
            ("ext4", "", "discard"),
            ("ext4", "commit=7", "commit=7,discard"),
            ("ext4", "nodiscard", "nodiscard"),
            ("xfs", "logbsize=32k", "logbsize=32k,discard"),
            ("btrfs", "", "discard=sync"),
            ("btrfs", "discard=async", "discard=async"),
            ("f2fs", "", ""),
            ("vfat", "utf8", "utf8"),
        ] {
            assert_eq!(
                with_discard(kind, options.into()),
                expected,
                "{kind} {options}"
            );
        }
    }

    #[test]
    fn only_the_first_process_boots() {
        let error = run(None).unwrap_err().to_string();
        assert!(error.contains("PID 1"), "{error}");
        assert!(!is_init());
    }
}
