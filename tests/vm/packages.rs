//! Debian packages unpacked and not installed: programs that run here, or in a guest, with libraries of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::Apt;
use crate::cache::{Cache, Key, sorted};
use crate::command::{command, output, run, step};

/// Where the programs of a tree have their libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// `packages` and all they need, unpacked: nothing of this machine is used, and no service of them is started.
#[derive(Debug)]
pub(crate) struct Tree(PathBuf);

impl Tree {
    /// Gets it, or takes it from the cache.
    pub(crate) fn get(cache: &Cache, apt: &Apt, packages: &[&str]) -> Result<Self> {
        let mut key = Key::new().text(apt.suite);
        for package in packages {
            key = key.text(package).text(&apt.version(package)?);
        }
        let tree = cache.get("debian-tree", &key, |part| {
            let what = format!("downloading and unpacking {} (20 MB)", packages.join(", "));
            step(&what, || {
                let debs = tempfile::tempdir()?;
                apt.download_all(packages, debs.path())?;
                fs::create_dir_all(part)?;
                let debs = sorted(debs.path())?;
                for deb in debs
                    .iter()
                    .filter(|path| path.extension() == Some("deb".as_ref()))
                {
                    run(
                        "dpkg-deb",
                        ["-x".as_ref(), deb.as_os_str(), part.as_os_str()],
                    )?;
                }
                Ok(())
            })
        })?;
        Ok(Self(tree))
    }

    /// A path in it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// One of its programs, to be run on this machine with `folders` of libraries besides the usual one.
    pub(crate) fn command(&self, program: &str, folders: &[&str]) -> Command {
        let mut found = command("setpriv");
        let folders: Vec<String> = [LIBRARIES]
            .iter()
            .chain(folders)
            .map(|folder| self.path(folder).display().to_string())
            .collect();
        // Whoever ends this process must not leave a server behind.
        found
            .args(["--pdeathsig", "KILL"])
            .arg(self.loader())
            .arg("--library-path")
            .arg(folders.join(":"))
            .arg(self.path(program));
        found
    }

    /// Copies programs into a guest's `root`, each under its own path, with the libraries they need.
    pub(crate) fn copy(&self, programs: &[&str], root: &Path) -> Result<()> {
        let copy = |from: &Path, to: &Path| -> Result<()> {
            fs::create_dir_all(to.parent().context("a program's folder")?)?;
            fs::copy(from, to).with_context(|| format!("copying '{}'", from.display()))?;
            Ok(())
        };
        copy(&self.loader(), &root.join("lib64/ld-linux-x86-64.so.2"))?;
        for program in programs {
            copy(&self.path(program), &root.join(program))?;
            let mut list = command(&self.loader().display().to_string());
            list.arg("--library-path")
                .arg(self.path(LIBRARIES))
                .arg("--list")
                .arg(self.path(program));
            let list = output(&mut list)?;
            let files = list.split_whitespace().filter(|word| word.starts_with('/'));
            for file in files.map(Path::new) {
                if let Ok(inner) = file.strip_prefix(&self.0) {
                    copy(file, &root.join(inner))?;
                }
            }
        }
        Ok(())
    }

    fn loader(&self) -> PathBuf {
        self.path(LIBRARIES).join("ld-linux-x86-64.so.2")
    }
}
