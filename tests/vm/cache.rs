//! Artifacts that take seconds or a network to make, kept outside the checkout.
//!
//! An artifact's name ends in a hash of everything it was made from, so a changed input gives another
//! name and nothing has to be invalidated. It is made under a `.part` name and renamed when complete:
//! what has its final name is whole, whatever was interrupted. Several checkouts share one cache;
//! an artifact that no run asked for in a while goes away: what took a download after a week, what our
//! own machine makes in seconds, anew for every edit of the binary, after hours.

use std::cell::Cell;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

/// How long an artifact that no run asks for stays.
const UNUSED: Duration = Duration::from_hours(3);

/// The same, for what has to be downloaded again.
const UNUSED_DOWNLOAD: Duration = Duration::from_hours(7 * 24);

/// How the names of downloaded artifacts begin.
const DOWNLOADS: [&str; 3] = ["kernel-", "debian-tar-", "debian-tree-"];

/// The folder of artifacts.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// A hash of an artifact's inputs.
#[derive(Debug, Clone)]
pub(crate) struct Key(DefaultHasher);

impl Key {
    /// A key with nothing in it yet.
    pub(crate) fn new() -> Self {
        Self(DefaultHasher::new())
    }

    /// Adds a text: a version, an option, another artifact's name.
    pub(crate) fn text(mut self, text: &str) -> Self {
        text.hash(&mut self.0);
        self
    }

    /// Adds a path by its name, which for another artifact stands for its content.
    pub(crate) fn name_of(self, path: &Path) -> Self {
        self.text(&path.to_string_lossy())
    }

    /// Adds the content of a file and whether it is a program, or of all files below a folder with their names.
    pub(crate) fn content(mut self, path: &Path) -> Result<Self> {
        if path.is_dir() {
            for child in sorted(path)? {
                self = self.name_of(child.strip_prefix(path)?).content(&child)?;
            }
            return Ok(self);
        }
        let bytes = fs::read(path).with_context(|| format!("reading '{}'", path.display()))?;
        bytes.hash(&mut self.0);
        let mode = fs::metadata(path)?.permissions().mode();
        (mode & 0o100 != 0).hash(&mut self.0);
        Ok(self)
    }

    fn hex(&self) -> String {
        format!("{:016x}", self.0.finish())
    }
}

impl Cache {
    /// Opens the cache: `$COWROOT_CACHE`, or `cowroot` in the user's cache folder.
    pub(crate) fn open() -> Result<Self> {
        let var = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let root = var("COWROOT_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|d| d.join("cowroot")))
            .or_else(|| var("HOME").map(|d| d.join(".cache/cowroot")))
            .context(
                "finding a cache folder: none of COWROOT_CACHE, XDG_CACHE_HOME and HOME is set",
            )?;
        fs::create_dir_all(&root)
            .with_context(|| format!("making the cache folder '{}'", root.display()))?;
        let cache = Self { root };
        cache.sweep()?;
        Ok(cache)
    }

    /// A folder of the cache that is a state, not an artifact (apt's lists).
    pub(crate) fn state(&self, name: &str) -> Result<PathBuf> {
        let dir = self.root.join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// The artifact `kind` made from `key`'s inputs; `make` is called with the path to fill if there is none.
    pub(crate) fn get(
        &self,
        kind: &str,
        key: &Key,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let done = self.root.join(format!("{kind}-{}", key.hex()));
        if !done.exists() {
            alone(|| match done.exists() {
                true => Ok(()),
                false => self.make(&done, make),
            })?;
        }
        touch(&done)?;
        Ok(done)
    }

    fn make(&self, done: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let mut part = done.as_os_str().to_owned();
        part.push(format!(".part{}", std::process::id()));
        let part = PathBuf::from(part);
        remove(&part)?;
        if let Err(error) = make(&part) {
            remove(&part)?;
            return Err(error).with_context(|| format!("making '{}'", done.display()));
        }
        // Another run may have been faster; a folder in its place is as good as ours.
        if let Err(error) = fs::rename(&part, done) {
            remove(&part)?;
            if !done.exists() {
                return Err(error).with_context(|| format!("renaming '{}'", part.display()));
            }
        }
        Ok(())
    }

    /// Removes what no run asked for in a while, half-made artifacts included.
    fn sweep(&self) -> Result<()> {
        for path in sorted(&self.root)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let downloaded = DOWNLOADS.iter().any(|kind| name.starts_with(kind));
            let keep = if downloaded { UNUSED_DOWNLOAD } else { UNUSED };
            let used = fs::symlink_metadata(&path).and_then(|m| m.modified());
            let age = used.map(|t| SystemTime::now().duration_since(t).unwrap_or_default());
            // Without a dash it is a state, not an artifact.
            if name.contains('-') && age.is_ok_and(|a| a > keep) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Do what no other thread of this run may do at the same time: make artifacts, which may need others made, and ask
/// apt for package lists.
pub(crate) fn alone<T>(act: impl FnOnce() -> T) -> T {
    static BUSY: Mutex<()> = Mutex::new(());
    thread_local!(static MINE: Cell<bool> = const { Cell::new(false) });
    if MINE.get() {
        return act();
    }
    let _busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
    MINE.set(true);
    let done = act();
    MINE.set(false);
    done
}

/// What a folder holds, in order of name.
pub(crate) fn sorted(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("listing '{}'", dir.display()))?;
    let mut paths = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing '{}'", path.display()))
        }
        _ => Ok(()),
    }
}

fn touch(path: &Path) -> Result<()> {
    let file = fs::File::open(path)?;
    file.set_modified(SystemTime::now())
        .with_context(|| format!("touching '{}'", path.display()))
}
