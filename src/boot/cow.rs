//! From the words for a cowfile to a file or device that can be opened as one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::cmdline::{Cow, Plan};
use super::modules::Modules;
use super::reach::{Drivers, MEDIUM, MOUNTS, Mounting, Reached, list, open_device, wait_for};
use super::switch::resolve_inside;
use crate::disk::base::Base;
use crate::engine::format::Shape;
use crate::media::cow_source::{CowSource, Create, Fallback};
use crate::media::create::{self, Created, Wishes};
use crate::media::find::NotThere;
use crate::media::open::{CowStore, TmpfsSize};
use crate::media::probe::Content;
use crate::media::session::Wish;
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
            if !is_read(plan) {
                require_writable(source, &device)?;
            }
            match path {
                None => device,
                Some(path) => {
                    let mounted = Path::new(MOUNTS).join("cow");
                    let how: Mounting = match is_read(plan) {
                        true => mount::readable,
                        false => mount::writable,
                    };
                    mount_medium((&device, how), seen.content.as_ref(), &mounted, modules)?;
                    find(source, path, &mounted)?
                }
            }
        }
    };
    if let Some(create) = source.create.filter(|_| !is_read(plan)) {
        make_if_missing(&path, base, create)?;
    }
    Ok(CowStore::File(path))
}

/// Whether the cowfile stays as it is.
fn is_read(plan: &Plan) -> bool {
    plan.session == Wish::Throwaway
}

pub(super) fn require_writable(source: &CowSource, device: &Path) -> anyhow::Result<()> {
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
    let path = place(mounted, Path::new(path));
    let is_there = path.try_exists();
    if !is_there.with_context(|| format!("looking for cowfile '{source}'"))?
        && source.create.is_none()
    {
        return Err(NotThere(missing(source, &path)).into());
    }
    Ok(path)
}

/// Where `path` leads below `root`, as far as it is there; the rest follows as it is.
fn place(root: &Path, path: &Path) -> PathBuf {
    match (resolve_inside(root, path), path.parent(), path.file_name()) {
        (Some(found), ..) => found,
        (None, Some(folder), Some(name)) => place(root, folder).join(name),
        (None, ..) => root.to_owned(),
    }
}

fn mount_medium(
    (device, how): (&Path, Mounting),
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
    how(device, kind, target)
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
    let name = path.file_name().unwrap_or_default();
    let wishes = Wishes {
        name: Some(name.to_string_lossy().into_owned()),
        max_bytes: create.max_bytes,
        ..Wishes::default()
    };
    let base = Base::open(&base.path)?;
    let made = match path.starts_with("/dev") {
        true => create::create(path, &base, &wishes, &mut |_, _| {})?,
        false => make_whole(path, &base, &wishes)?,
    };
    let max_bytes = Shape::PRODUCT.offset_bytes(made.superblock.max_slots);
    log::info!(
        "cowfile '{}' made, of {} at most",
        path.display(),
        text::size(max_bytes)
    );
    Ok(())
}

/// Make a cowfile under another name, so that one which a power cut left half made is never taken for it. A new one is
/// one file, whose siblings come as it grows.
fn make_whole(path: &Path, base: &Base, wishes: &Wishes) -> anyhow::Result<Created> {
    let sibling = with_end(path, ".1");
    if sibling.exists() {
        bail!(
            "creating cowfile '{}': '{}' is there, where it would go on after its first file; move it away, it may hold \
             a session",
            path.display(),
            sibling.display()
        );
    }
    let part = with_end(path, ".part");
    if part.exists() {
        fs::remove_file(&part)
            .with_context(|| format!("removing what was begun, '{}'", part.display()))?;
    }
    let made = create::create(&part, base, wishes, &mut |_, _| {})?;
    fs::rename(&part, path)
        .with_context(|| format!("naming the new cowfile '{}'", path.display()))?;
    let folder = path.parent().unwrap_or(path);
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("syncing '{}'", folder.display()))?;
    Ok(made)
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_new_cowfile_lies_where_its_folders_links_lead_on_the_medium() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("data/sessions")).unwrap();
        symlink("/data/sessions", root.join("sessions")).unwrap();
        for (path, expected) in [
            ("/sessions/a.cow", "data/sessions/a.cow"),
            ("/data/new/deep/a.cow", "data/new/deep/a.cow"),
            ("/a.cow", "a.cow"),
        ] {
            assert_eq!(place(root, Path::new(path)), root.join(expected), "{path}");
        }
    }

    #[test]
    fn what_a_cut_left_half_made_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let base_path = folder.path().join("base");
        fs::write(&base_path, vec![7; 4 << 20]).unwrap();
        let base = Base::open(&base_path).unwrap();
        let path = folder.path().join("session.cow");
        fs::write(with_end(&path, ".part"), "half").unwrap();
        let stray = with_end(&path, ".1");
        fs::write(&stray, "somebody's").unwrap();
        let error = make_whole(&path, &base, &Wishes::default()).unwrap_err();
        assert!(
            error.to_string().contains("session.cow.1' is there"),
            "{error}"
        );
        fs::remove_file(&stray).unwrap();
        make_whole(&path, &base, &Wishes::default()).unwrap();
        let opened = cowfile::open(&path, crate::disk::cowfile::Mode::Read, Some(&base));
        opened.unwrap();
        let names = fs::read_dir(folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.into_iter().all(|name| !name.contains("part")));
    }
}
