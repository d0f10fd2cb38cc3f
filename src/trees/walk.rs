//! Both trees, name by name: a folder's names in the order of their bytes, each with what is below it.
//!
//! What is kept in memory is the names of the folders that lead to where one is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::compare::{Change, Ctime, Version, compare};
use super::entry::{Entry, Kind};
use super::folder::{Attributes, Folder};

/// A name that one of the trees has, or both, and what has become of it.
#[derive(Debug)]
pub struct Found<'a> {
    /// From the tree's root, without a slash before it; empty for the root itself.
    pub path: &'a Path,
    /// What it is in the base.
    pub base: Option<Entry>,
    /// What it is in the session.
    pub session: Option<Entry>,
    /// What has become of it.
    pub change: Change,
    folder: Option<&'a Folder>,
    name: &'a OsStr,
}

impl Found<'_> {
    /// What it is now, or was.
    #[must_use]
    pub fn entry(&self) -> Option<Entry> {
        self.session.or(self.base)
    }

    /// The session's file, to read.
    ///
    /// # Errors
    /// What the file system says; or the session has none.
    pub fn open(&self) -> io::Result<File> {
        self.folder()?.file(self.name)
    }

    /// What the session's symbolic link says.
    ///
    /// # Errors
    /// As for `open`.
    pub fn target(&self) -> io::Result<PathBuf> {
        self.folder()?.target(self.name)
    }

    /// The extended attributes that it has in the session.
    ///
    /// # Errors
    /// As for `open`.
    pub fn attributes(&self) -> io::Result<Attributes> {
        self.folder()?.attributes(self.name)
    }

    fn folder(&self) -> io::Result<&Folder> {
        self.folder.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A folder that is being walked.
struct Level {
    base: Option<Folder>,
    session: Option<Folder>,
    /// The last is the next.
    names: Vec<OsString>,
}

/// Tell `each` of all that is in one of the trees or in both, also of what is the same. Parents come before what is in
/// them.
///
/// # Errors
/// What cannot be read, by its path; or what `each` says.
pub fn walk(
    base: &Path,
    session: &Path,
    ctime: Ctime,
    each: &mut dyn FnMut(&Found<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let open =
        |path: &Path| Folder::open(path).with_context(|| format!("opening '{}'", path.display()));
    let top = Level {
        base: Some(open(base)?),
        session: Some(open(session)?),
        names: Vec::new(),
    };
    let mut path = PathBuf::new();
    let mut levels = Vec::new();
    // The root of a tree is a name in itself: the empty one.
    levels.extend(visit(&top, OsStr::new(""), &path, ctime, each)?);
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            path.pop();
            continue;
        };
        path.push(&name);
        match visit(level, &name, &path, ctime, each)? {
            Some(below) => levels.push(below),
            None => _ = path.pop(),
        }
    }
    Ok(())
}

/// Tell of one name. What is below it, if that is a folder.
fn visit(
    level: &Level,
    name: &OsStr,
    path: &Path,
    ctime: Ctime,
    each: &mut dyn FnMut(&Found<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Option<Level>> {
    let reading = || format!("reading '/{}'", path.display());
    let base = version(level.base.as_ref(), name).with_context(reading)?;
    let session = version(level.session.as_ref(), name).with_context(reading)?;
    let change = match (base, session) {
        (Some(base), Some(session)) => compare(base, session, ctime).with_context(reading)?,
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Deleted,
        (None, None) => Change::None,
    };
    each(&Found {
        path,
        base: base.map(|version| version.entry),
        session: session.map(|version| version.entry),
        change,
        folder: session.map(|version| version.folder),
        name,
    })?;
    below(base, session).with_context(reading)
}

fn version<'a>(folder: Option<&'a Folder>, name: &'a OsStr) -> io::Result<Option<Version<'a>>> {
    let Some(folder) = folder else {
        return Ok(None);
    };
    match folder.entry(name) {
        Ok(entry) => Ok(Some(Version {
            folder,
            name,
            entry,
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is in the folders of one name, if there are any.
fn below(base: Option<Version<'_>>, session: Option<Version<'_>>) -> io::Result<Option<Level>> {
    let open = |version: Option<Version<'_>>| match version {
        Some(version) if version.entry.kind == Kind::Directory => match version.name.is_empty() {
            true => version.folder.open_below(OsStr::new(".")).map(Some),
            false => version.folder.open_below(version.name).map(Some),
        },
        _ => Ok(None),
    };
    let (base, session) = (open(base)?, open(session)?);
    if base.is_none() && session.is_none() {
        return Ok(None);
    }
    let mut names = Vec::new();
    for folder in [&base, &session].into_iter().flatten() {
        names.extend(folder.names()?);
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    names.dedup();
    Ok(Some(Level {
        base,
        session,
        names,
    }))
}
