//! A writer for the newc cpio format, which the kernel unpacks as its initramfs. Everything in it belongs
//! to root, whoever writes it; device nodes are the kernel's business (devtmpfs).

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cache::sorted;

/// Packs all that is below `tree` into `out`.
pub(crate) fn pack(tree: &Path, out: &Path) -> Result<()> {
    let file = fs::File::create(out).with_context(|| format!("creating '{}'", out.display()))?;
    let mut writer = Writer {
        out: BufWriter::new(file),
        inode: 1,
    };
    writer.children(tree, "")?;
    writer.entry("TRAILER!!!", 0, &[])?;
    Ok(writer.out.flush()?)
}

struct Writer<W: Write> {
    out: W,
    inode: usize,
}

impl<W: Write> Writer<W> {
    fn children(&mut self, dir: &Path, below: &str) -> Result<()> {
        for path in sorted(dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = if below.is_empty() {
                name.into_owned()
            } else {
                format!("{below}/{name}")
            };
            let meta = fs::symlink_metadata(&path)?;
            let mode = meta.permissions().mode();
            if meta.is_dir() {
                self.entry(&name, mode, &[])?;
                self.children(&path, &name)?;
            } else if meta.is_symlink() {
                let target = fs::read_link(&path)?;
                self.entry(&name, mode, target.as_os_str().as_encoded_bytes())?;
            } else {
                self.entry(&name, mode, &fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    /// One entry: magic and 13 numbers of 8 hex digits, the name, the content, each padded to 4 bytes.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let (ino, len, name_len) = (self.inode, content.len(), name.len() + 1);
        write!(
            self.out,
            "070701{ino:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{len:08x}{:08x}{:08x}{:08x}{:08x}{name_len:08x}{:08x}",
            0, 0, 1, 0, 0, 0, 0, 0, 0
        )?;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(b"\0")?;
        self.pad(110 + name_len)?;
        self.out.write_all(content)?;
        self.pad(len)
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let zeros = [0; 3];
        self.out
            .write_all(zeros.get(..written.wrapping_neg() % 4).unwrap_or_default())
    }
}
