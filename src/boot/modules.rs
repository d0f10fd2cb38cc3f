//! Kernel modules by name or by the hardware that wants them, without modprobe and without udev.
//!
//! [`Index`] knows what there is and what needs what; [`file`] gets one file into the kernel.

mod depmod;
mod error;
mod file;
mod index;
mod modinfo;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

pub use error::{LoadError, is_missing};
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
    // A version whose driver is not there is one that the kernel does not speak.
    ("nfs", &["nfsv4", "nfsv3"]),
];

fn is_filesystem_there(driver: &str) -> bool {
    let there = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    there
        .lines()
        .any(|line| line.split_whitespace().last() == Some(driver))
}

/// Reading modules.dep takes milliseconds; unpacking each module, where it is missing, does not.
const SLOW: Duration = Duration::from_secs(1);

/// Drivers that are loaded at a time. Most of a driver's time is its hardware's: an AHCI controller asks
/// each of its ports, and a disk that has nothing to do with it would be found that much later.
const AT_A_TIME: usize = 8;

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

/// The modules of the running kernel.
#[derive(Debug)]
pub struct Modules {
    index: Index,
    release: String,
    folder: Option<PathBuf>,
    options: index::Options,
    /// Hardware that was looked at.
    tried: BTreeSet<String>,
    refused: Vec<String>,
}

impl Modules {
    /// Read what there is: modules.dep and its companions, as texts or binary, or else the modules themselves.
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
    pub fn load(&self, name: &str) -> anyhow::Result<Loaded> {
        self.load_within(name, &mut BTreeSet::new())
    }

    /// The same within the loading of others, which are `wanted`: who wants another softly may be wanted so
    /// by that one.
    fn load_within(&self, name: &str, wanted: &mut BTreeSet<String>) -> anyhow::Result<Loaded> {
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
            result = self.load_with_needs(&module, wanted);
        }
        result
    }

    /// Load every module of `names` that there is; the first refusal is returned at the end.
    ///
    /// # Errors
    /// A module is there and the kernel refused it.
    pub fn load_those_there(&self, names: &[&str]) -> anyhow::Result<()> {
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
    pub fn load_filesystem(&self, driver: &str) -> anyhow::Result<()> {
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
        let mut drivers = BTreeSet::new();
        for modalias in index::modaliases(Path::new("/sys/devices")) {
            if !self.tried.insert(modalias.clone()) {
                continue;
            }
            drivers.extend(self.index.of_alias(&modalias));
        }
        drivers.retain(|driver| !self.options.is_blacklisted(driver));
        let mut loaded = Vec::new();
        for (driver, result) in self.load_at_once(drivers.into_iter().collect()) {
            match result {
                Ok(Loaded::Now) => loaded.push(driver),
                Ok(_) => {}
                Err(error) => self.refuse(&error),
            }
        }
        loaded
    }

    /// Load these side by side. What two of them need is loaded by one, and the kernel lets the other wait.
    fn load_at_once(&self, names: Vec<String>) -> Vec<(String, anyhow::Result<Loaded>)> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mine = || names.get(next.fetch_add(1, Ordering::Relaxed));
            std::iter::from_fn(mine)
                .map(|name| (name.clone(), self.load(name)))
                .collect::<Vec<_>>()
        };
        thread::scope(|scope| {
            // This thread works too, so it goes on where the kernel has no more threads to give.
            let more = names.iter().skip(1).take(AT_A_TIME - 1);
            let threads: Vec<_> = more
                .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
                .collect();
            let mut results = work();
            // A thread that panics ends the process.
            results.extend(
                threads
                    .into_iter()
                    .filter_map(|thread| thread.join().ok())
                    .flatten(),
            );
            results
        })
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
        let state = std::fs::read_to_string(folder.join("initstate"));
        if let Ok(state) = state {
            // One that is coming is loaded once more: the kernel waits for the first, and says so.
            (state.trim_end() == "live").then_some(Loaded::Already)
        } else if self.index.is_built_in(name) || (folder.is_dir() && !self.index.has(name)) {
            // Only a built-in module that takes parameters has a folder there.
            Some(Loaded::BuiltIn)
        } else {
            None
        }
    }

    fn load_with_needs(&self, name: &str, wanted: &mut BTreeSet<String>) -> anyhow::Result<Loaded> {
        let plan = self.index.plan(name);
        // What a module wants softly may be missing or fail; it will say so itself if it matters.
        for soft in &plan.soft {
            if wanted.insert(soft.clone()) && self.is_there(soft).is_none() {
                let _ = self.load_within(soft, wanted);
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
