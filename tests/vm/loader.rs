//! A medium that boots itself: kernel, initramfs and the sample menu around a base, made as the
//! project's README says.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cache::Key;
use crate::command::{command, output};

/// What a boot loader finds on the medium, beside the base.
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    pub(crate) vmlinuz: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// boot/grub/local.cfg: what this medium sets otherwise than the sample menu.
    pub(crate) settings: String,
}

impl Loader<'_> {
    /// Adds all that [`Loader::iso`] puts on the medium.
    pub(crate) fn key(&self, key: Key) -> Result<Key> {
        key.name_of(self.vmlinuz)
            .name_of(self.initramfs)
            .text(&self.settings)
            .content(&menu())
    }

    /// An ISO at `out` of what `tree` holds and what boots it; `options` are xorriso's.
    pub(crate) fn iso(&self, tree: &Path, options: &[&str], out: &Path) -> Result<()> {
        let boot = tree.join("boot");
        fs::create_dir_all(boot.join("grub"))?;
        fs::copy(self.vmlinuz, boot.join("vmlinuz"))?;
        fs::copy(self.initramfs, boot.join("initrd"))?;
        fs::copy(menu(), boot.join("grub/grub.cfg"))?;
        fs::write(boot.join("grub/local.cfg"), &self.settings)?;
        let mut mkrescue = command("grub-mkrescue");
        // GRUB's translations, themes and font are 11 MiB, and the menu uses none of them.
        mkrescue.args(["--locales=", "--themes=", "--fonts=", "-o"]);
        mkrescue.args([out, tree]).args(options);
        output(mkrescue.args(["--", "-volid", "LIVE"])).map(drop)
    }
}

/// The menu that is shipped.
fn menu() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/grub.cfg")
}
