//! A disk with the Debian package that `make deb` made.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::cache::{Cache, Key};
use crate::command::{command, output};

/// An ext4 with /cowroot.deb. It has no label: the medium with the root is found by one.
pub(crate) fn disk(cache: &Cache) -> Result<PathBuf> {
    let deb = std::env::var_os("COWROOT_DEB").map(PathBuf::from);
    let deb =
        deb.context("COWROOT_DEB does not name the package to test; `make vm` builds it and does")?;
    ensure!(
        deb.is_file(),
        "COWROOT_DEB: no file '{}'; `make deb` makes it",
        deb.display()
    );
    let key = Key::new().content(&deb)?;
    cache.get("package", &key, |part| {
        let tree = tempfile::tempdir()?;
        fs::copy(&deb, tree.path().join("cowroot.deb"))?;
        let mut mke2fs = command("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]);
        output(mke2fs.arg(tree.path()).arg(part).arg("32M")).map(drop)
    })
}
