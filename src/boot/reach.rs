//! From the words for a base to a file or device that can be read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};

use super::cmdline::{Cow, Plan};
use super::modules::Modules;
use super::network::{self, Who};
use super::switch::resolve_inside;
use crate::disk::base::Base;
use crate::media::find::NotThere;
use crate::media::probe::{Content, probe};
use crate::media::session::Wish;
use crate::media::source::{Share, Source};
use crate::media::survey::Seen;
use crate::media::{find, mount, nfs, partition, text, whole};

/// Where the medium is mounted; what is inside its images goes beside it.
pub(super) const MOUNTS: &str = "/run/cowroot";
/// The base's medium there.
pub(super) const MEDIUM: &str = "medium";

/// A base that was found.
#[derive(Debug)]
pub(super) struct Reached {
    /// A regular file or a block device.
    pub(super) path: PathBuf,
    /// The file on a server that it lies in.
    pub(super) carrier: Option<PathBuf>,
    /// The cowfile is in the same file system, which is therefore mounted to be written.
    pub(super) is_shared: bool,
    /// What it lies on, if that can be written at all.
    pub(super) medium: Option<Medium>,
    /// Its size.
    pub(super) size_bytes: u64,
    /// The root file system in it, as far as recognised.
    pub(super) content: Option<Content>,
}

/// A block device with a base: all of it, or a file in the file system on it.
#[derive(Debug, Clone)]
pub(super) struct Medium {
    pub(super) device: PathBuf,
    /// What is on it, and where that is mounted; `None`: all of it is the base.
    pub(super) mounted: Option<(&'static str, PathBuf)>,
}

impl Reached {
    /// What the root file system in it is, as far as recognised.
    pub(super) fn kind(&self) -> Option<&'static str> {
        self.content.as_ref().map(|content| content.kind)
    }
}

/// Who loads the drivers of the hardware that turns up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drivers {
    /// Nobody else does.
    Ours,
    /// udev does, by the distribution's rules.
    Udevs,
    /// The same, and nobody brings the network up.
    UdevsWithoutNetwork,
}

/// Wait for the medium, mount it and what lies in it, and open the base.
pub(super) fn reach(
    plan: &Plan,
    modules: &mut Modules,
    drivers: Drivers,
) -> anyhow::Result<Reached> {
    let mut carrier = None;
    let mut is_shared = false;
    let mut on = None;
    let path = match (&plan.base.medium, plan.base.path.split_last()) {
        (Source::Nfs(share), Some(in_it)) => {
            let at = mount_share(share, plan, modules, drivers)?;
            carrier = in_it
                .1
                .first()
                .map(|image| find_file(&at, image))
                .transpose()?;
            enter(at, in_it, modules)?
        }
        (medium, in_it) => {
            let medium = wait_for(medium, plan, modules, drivers)?;
            let device = medium.device();
            match in_it {
                None => {
                    mount::set_read_only(&device)?;
                    on = Some(Medium {
                        device: device.clone(),
                        mounted: None,
                    });
                    device
                }
                Some(in_it) => {
                    let at = Path::new(MOUNTS).join(MEDIUM);
                    let opened = open_device(&device)?;
                    is_shared = is_cowfiles_too(plan, &medium, modules, drivers)?;
                    let how: Mounting = match is_shared {
                        true if plan.session == Wish::Throwaway => mount::readable,
                        true => mount::writable,
                        false => mount::medium,
                    };
                    let content = medium.content.as_ref();
                    mount_medium((&device, &opened), content, &at, how, modules)?;
                    // What lies in an image that is mounted cannot be written.
                    on = content
                        .filter(|_| in_it.1.is_empty())
                        .map(|content| Medium {
                            device: device.clone(),
                            mounted: Some((content.kind, at.clone())),
                        });
                    enter(at, in_it, modules)?
                }
            }
        }
    };
    let reached = open(path).map_err(|error| with_squash(error, &plan.base.medium))?;
    let reached = Reached {
        carrier,
        is_shared,
        medium: on,
        ..reached
    };
    let kind = reached.kind().unwrap_or("nothing recognised in it");
    log::info!(
        "base '{}': {}, {kind}",
        plan.base,
        text::size(reached.size_bytes)
    );
    Ok(reached)
}

/// Whether the cowfile lies in a file on the base's own medium; which can be written then.
fn is_cowfiles_too(
    plan: &Plan,
    medium: &Seen,
    modules: &mut Modules,
    drivers: Drivers,
) -> anyhow::Result<bool> {
    let source = match &plan.cow {
        Cow::Medium(source) if source.path.is_some() => source,
        _ => return Ok(false),
    };
    if !find::answers(&source.medium, medium) {
        return Ok(false);
    }
    // Another one may be called so, too.
    let is_same = wait_for(&source.medium, plan, modules, drivers)?.name == medium.name;
    if is_same && plan.session != Wish::Throwaway {
        super::cow::require_writable(source, &medium.device())?;
    }
    Ok(is_same)
}

/// Wait for one of the media of a boot.
pub(super) fn wait_for(
    source: &Source,
    plan: &Plan,
    modules: &mut Modules,
    drivers: Drivers,
) -> anyhow::Result<Seen> {
    let started = Instant::now();
    let medium = find::wait_for(source, plan.wait, &mut || {
        if drivers == Drivers::Ours {
            let loaded = modules.load_for_hardware();
            if !loaded.is_empty() {
                log::debug!("drivers loaded: {}", loaded.join(", "));
            }
        }
    });
    let medium = medium.map_err(|error| with_refused(&error, modules.refused()))?;
    log::info!(
        "medium found after {:.1} s: {medium}",
        started.elapsed().as_secs_f32()
    );
    Ok(medium)
}

/// Reach the server and mount what it exports.
fn mount_share(
    share: &Share,
    plan: &Plan,
    modules: &mut Modules,
    drivers: Drivers,
) -> anyhow::Result<PathBuf> {
    let started = Instant::now();
    let deadline = started + plan.wait;
    let who = match drivers {
        Drivers::Ours => Who::We,
        Drivers::Udevs => Who::Others,
        Drivers::UdevsWithoutNetwork => Who::WeAndUdev,
    };
    network::bring_up(share.server, &plan.ip, who, modules, deadline)?;
    modules.load_filesystem("nfs")?;
    let at = Path::new(MOUNTS).join(MEDIUM);
    let version = nfs::mount(share, &plan.nfs, &at, deadline)?;
    log::info!(
        "medium found after {:.1} s: '{share}', by NFS {version}",
        started.elapsed().as_secs_f32()
    );
    Ok(at)
}

/// Who may read nothing on a server is nobody there.
fn with_squash(error: anyhow::Error, medium: &Source) -> anyhow::Error {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    let is_denied = cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied);
    match medium {
        Source::Nfs(_) if is_denied => anyhow::anyhow!(
            "{error:#}; the server takes root for nobody (root_squash): let everybody read that file, or export it \
             with no_root_squash"
        ),
        _ => error,
    }
}

/// The base `last` behind images that lie in each other, the first of them below `at`.
fn enter(
    mut at: PathBuf,
    (last, images): (&String, &[String]),
    modules: &Modules,
) -> anyhow::Result<PathBuf> {
    for (depth, image) in (1..).zip(images) {
        let inner = Path::new(MOUNTS).join(format!("inner-{depth}"));
        mount_image(&find_file(&at, image)?, &inner, modules)?;
        at = inner;
    }
    find_file(&at, last)
}

/// A medium that is not there may be one whose driver is no good.
fn with_refused(error: &anyhow::Error, refused: &[String]) -> anyhow::Error {
    let mut text = format!("{error:#}");
    if !refused.is_empty() {
        text.push_str("\nDrivers that would not load:");
    }
    for driver in refused {
        text.push_str(&format!("\n  {driver}"));
    }
    match error.is::<NotThere>() {
        true => NotThere(text).into(),
        false => anyhow::anyhow!(text),
    }
}

pub(super) fn open_device(device: &Path) -> anyhow::Result<File> {
    File::open(device).with_context(|| format!("opening '{}'", device.display()))
}

/// Mounts a device, which holds a file system of that kind, at a place.
pub(super) type Mounting = fn(&Path, &str, &Path) -> anyhow::Result<()>;

fn mount_medium(
    (device, bytes): (&Path, &File),
    content: Option<&Content>,
    target: &Path,
    mounting: Mounting,
    modules: &Modules,
) -> anyhow::Result<()> {
    let Some(content) = content else {
        let (device, is_disk) = (device.display(), partition::has_table(bytes, 512));
        bail!(
            "mounting '{device}': {}",
            if is_disk {
                "it is a whole disk with partitions; name the one that holds the base"
            } else {
                "no file system is recognised on it; is it the medium that was meant, is it \
                 damaged, or encrypted?"
            }
        );
    };
    whole::check(bytes, content.kind)
        .with_context(|| format!("mounting '{}'", device.display()))?;
    if let Some(driver) = mount::driver(content.kind) {
        modules.load_filesystem(driver)?;
    }
    mounting(device, content.kind, target)
}

fn mount_image(image: &Path, target: &Path, modules: &Modules) -> anyhow::Result<()> {
    if !Path::new("/dev/loop-control").exists() {
        modules.load("loop")?;
    }
    let device = mount::loop_read_only(image)?;
    let content = probe(&device.holder);
    mount_medium(
        (&device.path, &device.holder),
        content.as_ref(),
        target,
        mount::medium,
        modules,
    )
    .with_context(|| format!("entering the image '{}'", image.display()))
}

/// The file `path` below `root`. If it is not there the error says what is.
fn find_file(root: &Path, path: &str) -> anyhow::Result<PathBuf> {
    if let Some(found) = resolve_inside(root, Path::new(path)) {
        return Ok(found);
    }
    let mut folder = Path::new(path);
    let listed = loop {
        folder = folder.parent().unwrap_or(Path::new("/"));
        let there = resolve_inside(root, folder).and_then(|folder| fs::read_dir(folder).ok());
        match there {
            Some(there) => break list(there),
            None if folder == Path::new("/") => break "nothing that can be read".into(),
            None => {}
        }
    };
    bail!(
        "looking for '{path}' on the medium: not there; '{}' holds {listed}",
        folder.display()
    )
}

/// The names in a folder, for a message.
pub(super) fn list(folder: fs::ReadDir) -> String {
    const SHOWN_AT_MOST: usize = 20;
    let names = folder.flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names
        .map(|name| format!("'{}'", name.to_string_lossy()))
        .collect();
    names.sort();
    let more = names.len().saturating_sub(SHOWN_AT_MOST);
    names.truncate(SHOWN_AT_MOST);
    match (names.is_empty(), more) {
        (true, _) => "nothing".into(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

fn open(path: PathBuf) -> anyhow::Result<Reached> {
    let size_bytes = Base::open(&path)?.size_bytes();
    let opening = || format!("opening base '{}'", path.display());
    let file = File::open(&path).with_context(opening)?;
    let content = probe(&file);
    if content.is_none() && partition::has_table(&file, 512) {
        bail!(
            "{}: it is a whole disk with partitions, and 'cowroot.root' that names one of them is \
             not available in this version; use an image of the root file system alone",
            opening()
        );
    }
    if let Some(content) = &content {
        whole::check(&file, content.kind).with_context(opening)?;
    }
    Ok(Reached {
        path,
        carrier: None,
        is_shared: false,
        medium: None,
        size_bytes,
        content,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_answered_with_what_is() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("live")).unwrap();
        fs::write(root.path().join("live/root.img"), "x").unwrap();
        let found = find_file(root.path(), "/live/root.img").unwrap();
        assert_eq!(found, root.path().join("live/root.img"));
        for (path, says) in [
            ("/live/rot.img", "'/live' holds 'root.img'"),
            ("/life/a/root.img", "'/' holds 'live'"),
            ("/live/root.img/x", "'/live' holds 'root.img'"),
        ] {
            let error = find_file(root.path(), path).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_base_that_cannot_be_one_is_refused_before_anything_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = vec![0; 4096];
        disk[446 + 4] = 0x83;
        disk[446 + 12] = 8;
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        for (content, says) in [
            (vec![], "hold no disk"),
            (disk, "whole disk with partitions"),
        ] {
            let path = folder.path().join("base");
            fs::write(&path, content).unwrap();
            let error = open(path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let error = open(folder.path().to_owned()).unwrap_err().to_string();
        assert!(
            error.contains("neither a regular file nor a block device"),
            "{error}"
        );
    }
}
