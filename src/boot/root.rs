//! The root on the device that is served: what it is, how it is mounted, and what its user should know of it.

use std::path::Path;

use anyhow::{Context, bail};
use nix::sys::statvfs::statvfs;
use sys_mount::MountFlags;

use super::cmdline::RootWords;
use super::modules::Modules;
use super::switch;
use crate::daemon::protocol::Report;
use crate::media::{mount, text};

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

/// The driver for the root: what `rootfstype=` says, else what is recognised at `path`, the base or its device.
///
/// # Errors
/// What is there cannot be a root.
pub(super) fn kind(
    words: &RootWords,
    path: &Path,
    found: Option<&'static str>,
) -> anyhow::Result<String> {
    let looking = || format!("looking for a root file system in '{}'", path.display());
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

/// Mount the root at `target` as the first of `kinds` (one, or several with commas, as rootfstype= takes
/// them) that fits.
///
/// # Errors
/// The last one's: no driver, or the kernel's refusal.
pub(super) fn mount(
    device: &Path,
    kinds: &str,
    target: &Path,
    words: &RootWords,
    modules: &Modules,
) -> anyhow::Result<()> {
    let mut result = Ok(());
    for kind in kinds.split(',') {
        result = modules
            .load_filesystem(kind)
            .and_then(|()| mount_as(device, kind, target, words));
        if result.is_ok() {
            break;
        }
    }
    result
}

fn mount_as(device: &Path, kind: &str, target: &Path, words: &RootWords) -> anyhow::Result<()> {
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
    mount::filesystem(device, target, kind, flags, &rest).map_err(|error| {
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
pub(super) fn warn_of_promises(root: &Path, report: &Report) {
    let Ok(root) = statvfs(root) else {
        return;
    };
    #[allow(
        clippy::useless_conversion,
        reason = "both are narrower on other targets"
    )]
    let promised = u64::from(root.blocks_available()).saturating_mul(root.fragment_size().into());
    let (cow, is_read_only) = (&report.cow, report.read_only);
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
pub(super) fn warn_without_modules(root: &Path) {
    let Ok(kernel) = nix::sys::utsname::uname() else {
        return;
    };
    let release = kernel.release();
    let has_modules = ["/lib/modules", "/usr/lib/modules"]
        .iter()
        .any(|folder| switch::resolve_inside(root, &Path::new(folder).join(release)).is_some());
    if !has_modules {
        log::warn!(
            "the root has no modules for the running kernel {}: drivers that the initramfs has not \
             loaded stay missing; install that kernel's modules in the base, or boot the kernel that \
             it has",
            release.to_string_lossy()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_mounted_by_what_is_said_or_else_by_what_is_found() {
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
            let kind = kind(&words(said), Path::new("/base"), found).ok();
            assert_eq!(kind.as_deref(), expected, "{said:?} {found:?}");
        }
        let read_only = RootWords {
            read_only: true,
            ..RootWords::default()
        };
        let kind = kind(&read_only, Path::new("/base"), Some("squashfs")).unwrap();
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
}
