//! Which files of a tree lie where on its device: for those that some damage concerns.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::sys;

/// Names that are looked at.
const MOST: usize = 2_000_000;
/// Names that are told.
const TOLD: usize = 10;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    /// Names of files and folders, from the tree's root.
    pub names: Vec<PathBuf>,
    /// How many there are besides.
    pub more: usize,
    /// There are names that were not looked at, for they are too many, or their file system does not tell.
    pub is_part: bool,
}

/// The files and folders of a tree that have anything in these stretches of its device, or do not read.
#[must_use]
pub fn concerned(root: &Path, stretches: &[(u64, u64)]) -> Concerned {
    let mut found = Concerned::default();
    let mut folders = vec![root.to_owned()];
    let mut left = MOST;
    while let Some(folder) = folders.pop() {
        let names = fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let names = match names {
            Ok(names) => names,
            Err(error) => {
                found.fails(root, &folder, &error);
                continue;
            }
        };
        look(root, &folder, stretches, &mut found);
        for name in names {
            let Some(fewer) = left.checked_sub(1) else {
                found.is_part = true;
                return found;
            };
            left = fewer;
            match name.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(name.path()),
                Ok(kind) if kind.is_file() => look(root, &name.path(), stretches, &mut found),
                Ok(_) => {}
                Err(error) => found.fails(root, &name.path(), &error),
            }
        }
    }
    found
}

impl Concerned {
    /// One that does not read: damaged, unless it is too deep to be named.
    fn fails(&mut self, root: &Path, path: &Path, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::ENAMETOOLONG) => self.is_part = true,
            _ => self.add(root, path),
        }
    }

    fn add(&mut self, root: &Path, path: &Path) {
        match self.names.len() < TOLD {
            true => {
                let inside = path.strip_prefix(root).unwrap_or(path);
                self.names.push(Path::new("/").join(inside));
            }
            false => self.more += 1,
        }
    }
}

fn look(root: &Path, path: &Path, stretches: &[(u64, u64)], found: &mut Concerned) {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) => return found.fails(root, path, &error),
    };
    let mut is_concerned = false;
    let told = sys::extents(&file, &mut |extent| {
        let end = extent.place.saturating_add(extent.bytes);
        let touches = |stretch: &(u64, u64)| extent.place < stretch.1 && stretch.0 < end;
        is_concerned = stretches.iter().any(touches);
        !is_concerned
    });
    match told {
        // Folders of some file systems do not tell.
        Err(_) if path.is_dir() => {}
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP)) => {
            found.is_part = true;
        }
        Err(_) => found.add(root, path),
        Ok(()) if is_concerned => found.add(root, path),
        Ok(()) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
