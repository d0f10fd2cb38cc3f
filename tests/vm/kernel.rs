//! The guests' kernel: Debian's own, unpacked and not installed, and modules picked from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::apt::Apt;
use crate::cache::{Cache, Key, sorted};
use crate::command::{command, output, run, step};

/// The meta package that names the kernel.
const META: &str = "linux-image-amd64";

/// Its packages are named by these and its release; sid has split the first into the others.
const PARTS: [&str; 4] = [
    "linux-image-",
    "linux-binary-",
    "linux-modules-",
    "linux-base-",
];

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// What QEMU boots.
    pub(crate) vmlinuz: PathBuf,
    /// Its release, as `uname -r` says.
    pub(crate) release: String,
    /// `/lib/modules/<release>`, with what depmod makes.
    pub(crate) modules: PathBuf,
    /// Module name → its file and what it depends on, below `modules`.
    depends: BTreeMap<String, Vec<String>>,
}

/// How the modules in an initramfs are packed. Distributions differ, and the binary must read them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Packing {
    Plain,
    Xz,
    Zst,
    Gz,
}

/// What is wrong with a module file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Spoilt {
    /// Built for another kernel, and not signed.
    OtherKernel,
    /// Its second half is missing.
    Cut,
}

impl Packing {
    fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Xz => ".xz",
            Self::Zst => ".zst",
            Self::Gz => ".gz",
        }
    }
}

impl Kernel {
    /// The newest kernel of `apt`'s suite: downloaded, unpacked, depmod run on it.
    pub(crate) fn get(cache: &Cache, apt: &Apt) -> Result<Self> {
        let [image, ..] = PARTS;
        let names = apt.dependencies(META)?;
        let release = names.iter().find_map(|name| {
            let release = name.strip_prefix(image)?;
            release
                .starts_with(|c: char| c.is_ascii_digit())
                .then_some(release)
        });
        let release = release.with_context(|| format!("finding the kernel that {META} names"))?;
        let packages: Vec<String> = PARTS
            .iter()
            .map(|part| format!("{part}{release}"))
            .filter(|name| names.contains(name))
            .collect();
        let version = apt.version(&format!("{image}{release}"))?;
        let key = Key::new().text(&packages.concat()).text(&version).text("3");
        let dir = cache.get(&format!("kernel-{}", apt.suite), &key, |dir| {
            let what = format!("downloading {release} {version} of {} (110 MB)", apt.suite);
            step(&what, || unpack(apt, &packages, dir))
        })?;
        let kernel = Self::open(&dir)?;
        eprintln!("vm: kernel {} {version} of {}", kernel.release, apt.suite);
        Ok(kernel)
    }

    fn open(dir: &Path) -> Result<Self> {
        let one = |parent: PathBuf| {
            let first = sorted(&parent)?.into_iter().next();
            first.with_context(|| format!("finding something in '{}'", parent.display()))
        };
        let modules = one(dir.join("lib/modules"))?;
        let text = fs::read_to_string(modules.join("modules.dep"))?;
        let depends = text.lines().filter_map(|line| {
            let (file, needs) = line.split_once(':')?;
            let mut files = vec![file.to_owned()];
            files.extend(needs.split_whitespace().map(str::to_owned));
            Some((module_name(file), files))
        });
        Ok(Self {
            vmlinuz: dir.join("vmlinuz"),
            release: modules
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            depends: depends.collect(),
            modules,
        })
    }

    /// Copies the modules `names` with all they depend on to `root`/lib/modules, packed as asked,
    /// with the index files a loader reads.
    pub(crate) fn copy_modules(&self, names: &[&str], packing: Packing, root: &Path) -> Result<()> {
        let mut files = BTreeSet::new();
        for name in names {
            let needs = self.depends.get(&name.replace('-', "_"));
            // Not a module here: built into this kernel, or only in others.
            files.extend(needs.into_iter().flatten().cloned());
        }
        let target = root.join("lib/modules").join(&self.release);
        let wanted: BTreeSet<String> = files.iter().map(|f| module_name(f)).collect();
        for file in &files {
            let to = target.join(file);
            fs::create_dir_all(to.parent().context("a module's folder")?)?;
            fs::copy(self.modules.join(file), &to)?;
            repack(&to, packing)?;
        }
        self.copy_indexes(&wanted, packing, &target)
    }

    /// Spoils the unpacked module `name` below `root`.
    pub(crate) fn spoil(&self, name: &str, spoilt: Spoilt, root: &Path) -> Result<()> {
        let file = self.depends.get(name).and_then(|files| files.first());
        let file = file.with_context(|| format!("finding the module {name}"))?;
        let file = root.join("lib/modules").join(&self.release).join(file);
        let file = file.with_extension("");
        let mut bytes = fs::read(&file)?;
        match spoilt {
            Spoilt::Cut => bytes.truncate(bytes.len() / 2),
            Spoilt::OtherKernel => {
                // Behind its release, which the kernel leaves to the symbols' checksums.
                let mark = b" SMP ";
                let at = bytes.windows(mark.len()).position(|piece| piece == mark);
                let at = at.context("finding the module's vermagic")? + 1;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = b's';
                }
                bytes.truncate(bytes.len() - b"~Module signature appended~\n".len());
            }
        }
        Ok(fs::write(file, bytes)?)
    }

    /// The index files, reduced to `wanted` and with the names the files have now.
    fn copy_indexes(&self, wanted: &BTreeSet<String>, packing: Packing, to: &Path) -> Result<()> {
        fs::create_dir_all(to)?;
        for name in [
            "modules.builtin",
            "modules.order",
            "modules.builtin.modinfo",
        ] {
            fs::copy(self.modules.join(name), to.join(name))?;
        }
        let dep = fs::read_to_string(self.modules.join("modules.dep"))?;
        let dep = dep.lines().filter(|l| {
            l.split_once(':')
                .is_some_and(|(f, _)| wanted.contains(&module_name(f)))
        });
        let dep: String = dep
            .map(|l| {
                format!(
                    "{}\n",
                    l.replace(".ko.xz", &format!(".ko{}", packing.suffix()))
                )
            })
            .collect();
        fs::write(to.join("modules.dep"), dep)?;
        let reduced = |name: &str, field: fn(&str) -> Option<&str>| -> Result<()> {
            let text = fs::read_to_string(self.modules.join(name))?;
            let lines = text
                .lines()
                .filter(|l| field(l).is_some_and(|m| wanted.contains(&module_name(m))));
            let lines: String = lines.map(|l| format!("{l}\n")).collect();
            Ok(fs::write(to.join(name), lines)?)
        };
        reduced("modules.alias", |l| l.split_whitespace().next_back())?;
        reduced("modules.softdep", |l| l.split_whitespace().nth(1))
    }
}

/// `kernel/fs/ext4/ext4.ko.xz` → `ext4`, with the dashes the kernel writes as underscores.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).replace('-', "_")
}

fn unpack(apt: &Apt, packages: &[String], dir: &Path) -> Result<()> {
    let tree = dir.join("tree");
    fs::create_dir_all(&tree)?;
    for package in packages {
        let deb = apt.download(package, dir)?;
        run("dpkg-deb", ["-x".as_ref(), deb.as_path(), &tree])?;
        fs::remove_file(deb)?;
    }
    fs::create_dir_all(dir.join("lib"))?;
    let merged = tree.join("usr/lib/modules");
    let modules = if merged.exists() {
        merged
    } else {
        tree.join("lib/modules")
    };
    fs::rename(modules, dir.join("lib/modules"))?;
    let release = sorted(&dir.join("lib/modules"))?
        .into_iter()
        .next()
        .context("no modules")?;
    // In /boot, or, where the kernel is a package of its own, beside its modules.
    let boot = sorted(&tree.join("boot")).unwrap_or_default();
    let vmlinuz = boot
        .into_iter()
        .find(|p| p.to_string_lossy().contains("vmlinuz"));
    let vmlinuz = vmlinuz.unwrap_or_else(|| release.join("vmlinuz"));
    fs::rename(vmlinuz, dir.join("vmlinuz")).context("taking the kernel from its package")?;
    fs::remove_dir_all(tree)?;
    let release = release.file_name().unwrap_or_default().to_owned();
    run("depmod", ["-b".as_ref(), dir.as_os_str(), &release]).map(drop)
}

/// Unpacks a `.ko.xz` in place and packs it in another way.
fn repack(file: &Path, packing: Packing) -> Result<()> {
    if packing == Packing::Xz {
        return Ok(());
    }
    run("unxz", [file])?;
    let plain = file.with_extension("");
    match packing {
        Packing::Zst => output(command("zstd").args(["-q", "--rm"]).arg(plain)).map(drop),
        Packing::Gz => run("gzip", ["-n".as_ref(), plain.as_os_str()]).map(drop),
        Packing::Plain | Packing::Xz => Ok(()),
    }
}
