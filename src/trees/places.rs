//! Which files of a tree lie where on its device: for those that some damage concerns.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::entry::Kind;
use super::folder::Folder;
use crate::sys;

/// Names that are looked at, and for how long.
const MOST: usize = 2_000_000;
const LONGEST: Duration = Duration::from_secs(300);
/// Names that are told.
const TOLD: usize = 10;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    /// Names of files and folders, from the tree's root.
    pub names: Vec<PathBuf>,
    /// How many there are besides.
    pub more: usize,
    /// There are names that were not looked at: they are too many, lie in a folder that does not read, or their file system
    /// does not tell.
    pub is_part: bool,
}

/// A look through a tree.
struct Look<'a> {
    root: &'a Path,
    /// Ascending, and apart from each other.
    stretches: &'a [(u64, u64)],
    found: Concerned,
}

/// The files and folders of a tree that have anything in these stretches of its device, which ascend, or do not read.
#[must_use]
pub fn concerned(root: &Path, stretches: &[(u64, u64)]) -> Concerned {
    let mut look = Look {
        root,
        stretches,
        found: Concerned::default(),
    };
    let (mut folders, mut left) = (vec![root.to_owned()], MOST);
    let deadline = Instant::now() + LONGEST;
    while let Some(path) = folders.pop() {
        let Some(fewer) = left.checked_sub(1).filter(|_| Instant::now() < deadline) else {
            look.found.is_part = true;
            break;
        };
        left = fewer;
        match look.folder(&path, &mut left) {
            Ok(below) => folders.extend(below),
            Err(error) => {
                // What is in it is not seen either.
                look.found.is_part = true;
                look.fails(&path, &error);
            }
        }
    }
    look.found
}

impl Look<'_> {
    /// A folder and the files in it. The folders in it.
    fn folder(&mut self, path: &Path, left: &mut usize) -> io::Result<Vec<PathBuf>> {
        let folder = Folder::open(path)?;
        let names = folder.names()?;
        self.file(path, folder.opened(), true);
        let mut below = Vec::new();
        for name in names {
            *left = left.saturating_sub(1);
            let place = path.join(&name);
            match folder.entry(&name).map(|entry| entry.kind) {
                Ok(Kind::Directory) => below.push(place),
                Ok(Kind::File) => match folder.file(&name) {
                    Ok(file) => self.file(&place, &file, false),
                    Err(error) => self.fails(&place, &error),
                },
                Ok(_) => {}
                Err(error) => self.fails(&place, &error),
            }
        }
        Ok(below)
    }

    fn file(&mut self, path: &Path, file: &File, is_folder: bool) {
        let mut is_concerned = false;
        let told = sys::extents(file, &mut |extent| {
            let end = extent.place.saturating_add(extent.bytes);
            // The first that ends behind where it begins.
            let first = self
                .stretches
                .partition_point(|stretch| stretch.1 <= extent.place);
            is_concerned = self
                .stretches
                .get(first)
                .is_some_and(|stretch| stretch.0 < end);
            !is_concerned
        });
        match told {
            // Folders of some file systems do not tell.
            Err(_) if is_folder => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP)) => {
                self.found.is_part = true;
            }
            Err(_) => self.add(path),
            Ok(()) if is_concerned => self.add(path),
            Ok(()) => {}
        }
    }

    /// One that does not read: damaged, unless it is too deep to be named.
    fn fails(&mut self, path: &Path, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::ENAMETOOLONG) => self.found.is_part = true,
            _ => self.add(path),
        }
    }

    fn add(&mut self, path: &Path) {
        match self.found.names.len() < TOLD {
            true => {
                let inside = path.strip_prefix(self.root).unwrap_or(path);
                self.found.names.push(Path::new("/").join(inside));
            }
            false => self.found.more += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_are_found_by_where_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        fs::create_dir(&below).unwrap();
        for (path, byte) in [(folder.path().join("one"), 1), (below.join("other"), 2)] {
            fs::write(&path, vec![byte; 50_000]).unwrap();
            fs::File::open(&path).unwrap().sync_all().unwrap();
        }
        let mut place = None;
        let file = fs::File::open(below.join("other")).unwrap();
        let told = sys::extents(&file, &mut |extent| {
            place = Some(extent.place);
            false
        });
        if told.is_err() {
            let found = concerned(folder.path(), &[(0, 1)]);
            assert!(found.is_part && found.names.is_empty());
            return;
        }
        let start = place.unwrap();
        let found = concerned(folder.path(), &[(start + 4096, start + 4097)]);
        assert_eq!(found.names, [Path::new("/below/other")]);
        assert!(!found.is_part && found.more == 0);
    }

    #[test]
    fn a_link_is_not_followed_and_a_folder_that_is_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("host"), vec![1; 50_000]).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        // Whatever is anywhere.
        let found = concerned(folder.path(), &[(0, u64::MAX)]);
        assert!(
            found.names.iter().all(|name| !name.starts_with("/link")),
            "{found:?}"
        );
        let found = concerned(&folder.path().join("link"), &[(0, u64::MAX)]);
        assert!(found.is_part && found.names.len() == 1, "{found:?}");
    }
}
