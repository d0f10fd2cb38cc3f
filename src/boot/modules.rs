//! Kernel modules by name or by the hardware that wants them, without modprobe and without udev.
//!
//! [`Index`] knows what there is and what needs what; [`file`] gets one file into the kernel.

mod file;
mod index;
mod modinfo;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

pub use index::{Index, canonical};

/// What a file system asks for by name only when it is mounted, or a checksum it cannot do without.
const COMPANIONS: &[(&str, &[&str])] = &[
    ("ext4", &["crc32c_generic"]),
    ("btrfs", &["crc32c_generic"]),
    ("f2fs", &["crc32_generic"]),
    (
        "vfat",
        &["nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"],
    ),
    ("exfat", &["nls_utf8"]),
];

fn is_filesystem_there(driver: &str) -> bool {
    let there = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    there
        .lines()
        .any(|line| line.split_whitespace().last() == Some(driver))
}

/// Reading modules.dep takes milliseconds; unpacking each module, where it is missing, does not.
const SLOW: Duration = Duration::from_secs(1);

/// What loading a module came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// It was there before.
    Already,
    /// It is part of the kernel.
    BuiltIn,
    /// It was loaded by this call.
    Now,
}

/// Why a module is not there.
#[derive(Debug)]
pub enum LoadError {
    /// There is none of that name.
    Missing {
        /// The module.
        name: String,
        /// The running kernel's release.
        release: String,
        /// Where it was looked for, or `None` if the kernel's folder does not exist at all.
        folder: Option<PathBuf>,
    },
    /// The kernel would not have it.
    Refused {
        /// The module's file.
        path: PathBuf,
        /// What the kernel said.
        errno: i32,
    },
    /// Its file cannot be read or unpacked.
    Unreadable {
        /// The module's file.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing {
                name,
                release,
                folder: None,
            } => write!(
                f,
                "loading module '{name}': there are no modules for the running kernel {release}; \
                 use an initramfs made for it"
            ),
            Self::Missing {
                name,
                release,
                folder: Some(folder),
            } => write!(
                f,
                "loading module '{name}': not in '{}'; add it to the initramfs, or the kernel \
                 {release} was built without it",
                folder.display()
            ),
            Self::Refused { path, errno } => write!(
                f,
                "loading module '{}': the kernel refused it: {}; {}",
                path.display(),
                std::io::Error::from_raw_os_error(*errno),
                advice(*errno)
            ),
            Self::Unreadable { path, .. } => write!(f, "reading module '{}'", path.display()),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Missing { .. } | Self::Refused { .. } => None,
        }
    }
}

fn advice(errno: i32) -> &'static str {
    match errno {
        libc::ENOKEY | libc::EKEYREJECTED | libc::EBADMSG => {
            "its signature is not one this kernel trusts: take the module from the kernel's own \
             package"
        }
        libc::EPERM => {
            "it is on a blacklist, module loading is switched off, or the kernel is locked down \
             (Secure Boot) and wants a signed one"
        }
        libc::ENOEXEC | libc::ENOENT => {
            "it is damaged or was built for another kernel: the kernel's log says more"
        }
        _ => "the kernel's log says more",
    }
}

/// The modules of the running kernel.
#[derive(Debug)]
pub struct Modules {
    index: Index,
    release: String,
    folder: Option<PathBuf>,
    options: index::Options,
    tried: BTreeSet<String>,
    refused: Vec<String>,
}

impl Modules {
    /// Read what there is: modules.dep and its companions, or else the modules themselves.
    ///
    /// # Errors
    /// The kernel's release cannot be asked, or its folder not be read.
    pub fn open() -> anyhow::Result<Self> {
        let release = nix::sys::utsname::uname().context("asking for the kernel's release")?;
        let release = release.release().to_string_lossy().into_owned();
        let folder = ["/lib/modules", "/usr/lib/modules"]
            .iter()
            .map(|folder| Path::new(folder).join(&release))
            .find(|folder| folder.is_dir());
        let started = Instant::now();
        let index = match &folder {
            Some(folder) => Index::read(folder)
                .with_context(|| format!("reading modules in '{}'", folder.display()))?,
            None => Index::default(),
        };
        if started.elapsed() > SLOW {
            log::warn!(
                "reading what each module needs took {:.1} s; run depmod when making the initramfs",
                started.elapsed().as_secs_f32()
            );
        }
        let words = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Ok(Self {
            index,
            release,
            folder,
            options: index::Options::of(&words),
            tried: BTreeSet::new(),
            refused: Vec::new(),
        })
    }

    /// Load `name`, and first what it needs. An alias (`fs-ext4`) loads what it stands for.
    ///
    /// # Errors
    /// A [`LoadError`] that tells a missing module from one the kernel refused.
    pub fn load(&mut self, name: &str) -> anyhow::Result<Loaded> {
        let name = canonical(name);
        if let Some(loaded) = self.is_there(&name) {
            return Ok(loaded);
        }
        let modules = if self.index.has(&name) {
            vec![name.clone()]
        } else {
            self.index.of_alias(&name)
        };
        if modules.is_empty() {
            return Err(LoadError::Missing {
                name,
                release: self.release.clone(),
                folder: self.folder.clone(),
            }
            .into());
        }
        let mut result = Ok(Loaded::Already);
        for module in modules {
            result = self.load_with_needs(&module);
        }
        result
    }

    /// Load every module of `names` that there is; the first refusal is returned at the end.
    ///
    /// # Errors
    /// A module is there and the kernel refused it.
    pub fn load_those_there(&mut self, names: &[&str]) -> anyhow::Result<()> {
        let mut result = Ok(());
        for name in names {
            match self.load(name) {
                Err(error) if !is_missing(&error) => result = result.and(Err(error)),
                _ => {}
            }
        }
        result
    }

    /// Load the driver of a file system, unless the kernel has it already.
    ///
    /// # Errors
    /// The kernel has no such driver: it says whether it is missing or was refused.
    pub fn load_filesystem(&mut self, driver: &str) -> anyhow::Result<()> {
        // Even for a driver that is there: they are what it asks for when it mounts.
        for (_, companions) in COMPANIONS.iter().filter(|(of, _)| *of == driver) {
            if let Err(error) = self.load_those_there(companions) {
                log::warn!("{error:#}; going on without it");
            }
        }
        if is_filesystem_there(driver) {
            return Ok(());
        }
        let loaded = self
            .load(driver)
            .with_context(|| format!("getting a driver for {driver}"))?;
        if !is_filesystem_there(driver) {
            bail!(
                "getting a driver for {driver}: its module is there ({loaded:?}), but brings none"
            );
        }
        Ok(())
    }

    /// Load the drivers of hardware that has turned up since the last call. Returns their names.
    ///
    /// A driver that is refused is no failure: its hardware may be none that this boot needs.
    pub fn load_for_hardware(&mut self) -> Vec<String> {
        let mut loaded = Vec::new();
        for modalias in index::modaliases(Path::new("/sys/devices")) {
            if !self.tried.insert(modalias.clone()) {
                continue;
            }
            for module in self.index.of_alias(&modalias) {
                if self.options.is_blacklisted(&module) {
                    continue;
                }
                match self.load(&module) {
                    Ok(Loaded::Now) => loaded.push(module),
                    Ok(_) => {}
                    Err(error) => self.refuse(&error),
                }
            }
        }
        loaded
    }

    /// The drivers of this machine's hardware that would not load, and why.
    #[must_use]
    pub fn refused(&self) -> &[String] {
        &self.refused
    }

    fn refuse(&mut self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        log::debug!("{text}");
        let is_not_for_this_machine = matches!(
            error.downcast_ref(),
            Some(LoadError::Refused {
                errno: libc::ENODEV,
                ..
            })
        );
        if !is_not_for_this_machine && !self.refused.contains(&text) {
            self.refused.push(text);
        }
    }

    fn is_there(&self, name: &str) -> Option<Loaded> {
        let folder = Path::new("/sys/module").join(name);
        if folder.join("initstate").exists() {
            Some(Loaded::Already)
        } else if self.index.is_built_in(name) || (folder.is_dir() && !self.index.has(name)) {
            // Only a built-in module that takes parameters has a folder there.
            Some(Loaded::BuiltIn)
        } else {
            None
        }
    }

    fn load_with_needs(&mut self, name: &str) -> anyhow::Result<Loaded> {
        let plan = self.index.plan(name);
        // What a module wants softly may be missing or fail; it will say so itself if it matters.
        for soft in &plan.soft {
            if self.is_there(soft).is_none() && self.tried.insert(format!("softdep {soft}")) {
                let _ = self.load(soft);
            }
        }
        let mut result = Loaded::Already;
        for (module, path) in &plan.hard {
            result = match self.is_there(module) {
                Some(loaded) => loaded,
                None => {
                    log::debug!("loading module '{module}'");
                    file::load(path, &self.options.of_module(module))?;
                    Loaded::Now
                }
            };
        }
        Ok(result)
    }
}

/// Whether `error` says that there is no such module, as opposed to one that was refused.
#[must_use]
pub fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LoadError::Missing { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_module_and_a_refused_one_read_differently() {
        let refused = |errno| LoadError::Refused {
            path: "/m/ublk_drv.ko".into(),
            errno,
        };
        let missing = |folder: Option<&str>| LoadError::Missing {
            name: "ublk_drv".into(),
            release: "6.1.0".into(),
            folder: folder.map(PathBuf::from),
        };
        for (error, says, is_absent) in [
            (
                missing(None),
                "no modules for the running kernel 6.1.0",
                true,
            ),
            (missing(Some("/m")), "add it to the initramfs", true),
            (refused(libc::EKEYREJECTED), "signature", false),
            (refused(libc::EPERM), "locked down", false),
            (refused(libc::ENOEXEC), "another kernel", false),
            (refused(libc::EIO), "kernel's log", false),
        ] {
            let error = anyhow::Error::from(error);
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(is_missing(&error), is_absent, "{error}");
        }
    }
}
