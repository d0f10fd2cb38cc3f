//! From the words for a cowfile to a file or device that can be opened as one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::cmdline::{Cow, Plan};
use super::modules::Modules;
use super::reach::{Drivers, MEDIUM, MOUNTS, Reached, list, open_device, wait_for};
use super::switch::resolve_inside;
use crate::disk::base::Base;
use crate::engine::format::Shape;
use crate::media::cow_source::{CowSource, Create, Fallback};
use crate::media::create::{self, Wishes};
use crate::media::find::NotThere;
use crate::media::open::{CowStore, TmpfsSize};
use crate::media::probe::Content;
use crate::media::{cowfile, mount, text};
use crate::sys;

/// How large a session in RAM may become that nobody has planned for.
const FALLBACK: TmpfsSize = TmpfsSize::Percent(50);

/// What takes the writes of this boot.
pub(super) struct Store {
    pub(super) store: CowStore,
    /// What whoever uses the system must know of it.
    pub(super) notice: Option<String>,
}

impl From<CowStore> for Store {
    fn from(store: CowStore) -> Self {
        Self {
            store,
            notice: None,
        }
    }
}

/// Get ready what takes the writes: the cowfile that was named. Where that is not there the fallback decides; what is
/// there and no good is never passed over.
///
/// # Errors
/// The medium or the cowfile is not there, or no good.
pub(super) fn reach(
    plan: &Plan,
    base: &Reached,
    modules: &mut Modules,
    drivers: Drivers,
) -> anyhow::Result<Store> {
    let source = match &plan.cow {
        Cow::Tmpfs(size) => return Ok(CowStore::Tmpfs(*size).into()),
        Cow::Medium(source) => source,
    };
    match on_medium(source, plan, base, modules, drivers) {
        Err(error) if plan.fallback == Fallback::Tmpfs && error.is::<NotThere>() => {
            let notice = format!(
                "nothing that is written will be kept: cowfile '{source}' is not there, and cowroot.fallback=tmpfs was \
                 asked for"
            );
            log::error!("{notice}: {error:#}");
            Ok(Store {
                store: CowStore::Tmpfs(FALLBACK),
                notice: Some(notice),
            })
        }
        result => Ok(result?.into()),
    }
}

/// Wait for the medium of the cowfile, mount it, and make the cowfile if that was asked for and it is not there.
fn on_medium(
    source: &CowSource,
    plan: &Plan,
    base: &Reached,
    modules: &mut Modules,
    drivers: Drivers,
) -> anyhow::Result<CowStore> {
    let path = match &source.path {
        Some(path) if base.is_shared => find(source, path, &Path::new(MOUNTS).join(MEDIUM))?,
        path => {
            let seen = wait_for(&source.medium, plan, modules, drivers)?;
            let device = seen.device();
            require_writable(source, &device)?;
            match path {
                None => device,
                Some(path) => {
                    let mounted = Path::new(MOUNTS).join("cow");
                    mount_medium(&device, seen.content.as_ref(), &mounted, modules)?;
                    find(source, path, &mounted)?
                }
            }
        }
    };
    if let Some(create) = source.create {
        make_if_missing(&path, base, create)?;
    }
    Ok(CowStore::File(path))
}

fn require_writable(source: &CowSource, device: &Path) -> anyhow::Result<()> {
    let opened = open_device(device)?;
    let is_read_only = sys::is_block_device_read_only(&opened);
    if is_read_only.with_context(|| format!("asking '{}'", device.display()))? {
        bail!(
            "opening cowfile '{source}': '{}' is write-protected, or all of it is the base",
            device.display()
        );
    }
    Ok(())
}

/// The cowfile `path` in the file system at `mounted`; where it would be, if it may be made.
fn find(source: &CowSource, path: &str, mounted: &Path) -> anyhow::Result<PathBuf> {
    let path = resolve_inside(mounted, Path::new(path))
        .unwrap_or_else(|| mounted.join(path.trim_start_matches('/')));
    if !path.exists() && source.create.is_none() {
        return Err(NotThere(missing(source, &path)).into());
    }
    Ok(path)
}

fn mount_medium(
    device: &Path,
    content: Option<&Content>,
    target: &Path,
    modules: &Modules,
) -> anyhow::Result<()> {
    let kind = content.map(|content| content.kind).with_context(|| {
        format!(
            "mounting '{}' for the cowfile: no file system is recognised on it; where all of a partition is the \
             cowfile, leave the path out",
            device.display()
        )
    })?;
    if let Some(driver) = mount::driver(kind) {
        modules.load_filesystem(driver)?;
    }
    mount::writable(device, kind, target)
}

fn missing(source: &CowSource, path: &Path) -> String {
    let folder = path.parent().unwrap_or(path);
    let there = match fs::read_dir(folder) {
        Ok(there) => format!("its folder holds {}", list(there)),
        Err(_) => "nor is its folder".into(),
    };
    format!(
        "opening cowfile '{source}': it is not there, {there}; ',create' behind its name makes a new one"
    )
}

/// A new cowfile where there is none. What is there is never replaced: opening it says what is wrong with it.
fn make_if_missing(path: &Path, base: &Reached, create: Create) -> anyhow::Result<()> {
    if path.starts_with("/dev") {
        if cowfile::is_one(&open_device(path)?) {
            return Ok(());
        }
    } else if path.exists() {
        return Ok(());
    } else if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making '{}'", folder.display()))?;
    }
    let wishes = Wishes {
        max_bytes: create.max_bytes,
        ..Wishes::default()
    };
    let base = Base::open(&base.path)?;
    let made = create::create(path, &base, &wishes, &mut |_, _| {})?;
    let max_bytes = Shape::PRODUCT.offset_bytes(made.superblock.max_slots);
    log::info!(
        "cowfile '{}' made, of {} at most",
        path.display(),
        text::size(max_bytes)
    );
    Ok(())
}
