//! Where a comparison goes: a list to a terminal or a pipe, an archive to a file, and beside it what was deleted.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::diff::Diff;

/// Behind the archive's name.
const DELETED: &str = ".deleted";

/// An archive, and what was deleted.
#[derive(Debug)]
pub(super) struct Outputs {
    tar: Tar,
}

#[derive(Debug)]
enum Tar {
    None,
    Stdout,
    Files { archive: Place, deleted: Place },
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    file: File,
}

impl Outputs {
    /// Open what was asked for; a file that is there is replaced.
    pub(super) fn open(diff: &Diff) -> anyhow::Result<Self> {
        let tar = match &diff.tar {
            None => Tar::None,
            Some(path) if path == Path::new("-") => Tar::Stdout,
            Some(path) => Tar::Files {
                archive: Place::open(path.clone())?,
                deleted: Place::open(beside(path))?,
            },
        };
        Ok(Self { tar })
    }

    /// Where the list goes.
    pub(super) fn list(&self) -> Box<dyn Write> {
        match self.tar {
            Tar::Stdout => Box::new(io::BufWriter::new(io::stderr())),
            Tar::None | Tar::Files { .. } => Box::new(io::BufWriter::new(io::stdout())),
        }
    }

    /// Where the archive goes, if there is one.
    pub(super) fn archive(&self) -> io::Result<Option<Box<dyn Write>>> {
        Ok(match &self.tar {
            Tar::None => None,
            Tar::Stdout => Some(Box::new(io::BufWriter::new(io::stdout()))),
            Tar::Files { archive, .. } => Some(archive.writer()?),
        })
    }

    /// Where the list of what was deleted goes, if there is one.
    pub(super) fn deleted(&self) -> io::Result<Option<Box<dyn Write>>> {
        match &self.tar {
            Tar::None | Tar::Stdout => Ok(None),
            Tar::Files { deleted, .. } => deleted.writer().map(Some),
        }
    }

    /// What is in files is on their medium.
    pub(super) fn sync(&self) -> anyhow::Result<()> {
        if let Tar::Files { archive, deleted } = &self.tar {
            for place in [archive, deleted] {
                place
                    .sync()
                    .with_context(|| format!("writing '{}'", place.path.display()))?;
            }
        }
        Ok(())
    }

    /// Half an archive is none.
    pub(super) fn remove(&self) {
        if let Tar::Files { archive, deleted } = &self.tar {
            for place in [archive, deleted]
                .into_iter()
                .filter(|place| place.is_file())
            {
                if let Err(error) = std::fs::remove_file(&place.path) {
                    log::warn!(
                        "removing '{}', which is not complete: {error}",
                        place.path.display()
                    );
                }
            }
        }
    }
}

impl Place {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&path).with_context(|| format!("writing '{}'", path.display()))?;
        Ok(Self { path, file })
    }

    fn writer(&self) -> io::Result<Box<dyn Write>> {
        Ok(Box::new(io::BufWriter::new(self.file.try_clone()?)))
    }

    /// And not a pipe, or a tape.
    fn is_file(&self) -> bool {
        self.file
            .metadata()
            .is_ok_and(|metadata| metadata.is_file())
    }

    fn sync(&self) -> io::Result<()> {
        match self.is_file() {
            true => self.file.sync_all(),
            false => Ok(()),
        }
    }
}

fn beside(archive: &Path) -> PathBuf {
    let mut name = OsString::from(archive);
    name.push(DELETED);
    name.into()
}
