//! What modules there are, what each needs, and which names and hardware each answers to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::depmod;
use super::file::{self, ENDINGS};
use super::modinfo;
use crate::boot::cmdline;

/// A module's name as the kernel spells it: `-` and `_` are one.
#[must_use]
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The module a file holds: `snd-hda.ko.xz` is `snd_hda`.
fn module_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let name = ENDINGS
        .iter()
        .find_map(|ending| name.strip_suffix(ending))?;
    Some(canonical(name))
}

/// A module's file and what it needs at once.
#[derive(Debug, Default)]
struct Module {
    path: PathBuf,
    needs: Vec<String>,
    wants: Vec<String>,
}

/// What to load for one module, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What it and its needs would like to have; may be aliases, may be missing.
    pub soft: Vec<String>,
    /// What must be loaded, the module itself last.
    pub hard: Vec<(String, PathBuf)>,
}

/// The modules in one kernel's folder. Files that are listed there but absent do not count: an
/// initramfs holds a selection.
#[derive(Debug, Default)]
pub struct Index {
    modules: BTreeMap<String, Module>,
    built_in: BTreeSet<String>,
    aliases: Vec<(String, String)>,
}

impl Index {
    /// Read depmod's files in `folder`, its texts or else its binary ones, or every module there if it has none.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut index = Self::default();
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        index.built_in = text("modules.builtin")
            .lines()
            .filter_map(module_name)
            .collect();
        match std::fs::read_to_string(folder.join("modules.dep")) {
            Ok(depends) => {
                index.read_depends(folder, &depends);
                index.read_softdeps(&text("modules.softdep"));
                index.read_aliases(&text("modules.alias"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if index.read_binary(folder)? {
                    index.read_softdeps(&text("modules.softdep"));
                } else {
                    index.read_modules(folder)?;
                }
            }
            Err(error) => return Err(error),
        }
        Ok(index)
    }

    /// Read depmod's binary files; whether they are there.
    fn read_binary(&mut self, folder: &Path) -> io::Result<bool> {
        let entries = |name: &str| depmod::read(&folder.join(name));
        let Some(depends) = entries("modules.dep.bin")? else {
            return Ok(false);
        };
        for (_, line) in depends {
            self.read_depends(folder, &line);
        }
        for (pattern, name) in entries("modules.alias.bin")?.into_iter().flatten() {
            self.read_aliases(&format!("alias {pattern} {name}"));
        }
        let built_in = entries("modules.builtin.bin")?.into_iter().flatten();
        self.built_in
            .extend(built_in.map(|(name, _)| canonical(&name)));
        Ok(true)
    }

    /// Whether there is a module of this (canonical) name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.modules.contains_key(name)
    }

    /// Whether the kernel was built with this (canonical) module inside.
    #[must_use]
    pub fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(name)
    }

    /// The modules that answer to an alias: a modalias of hardware, or a name like `fs-ext4`.
    #[must_use]
    pub fn of_alias(&self, alias: &str) -> Vec<String> {
        let canonical_alias = canonical(alias);
        let mut names: Vec<String> = Vec::new();
        for (pattern, name) in &self.aliases {
            let is_match = matches(pattern.as_bytes(), alias.as_bytes())
                // Binary indexes have the canonical spelling.
                || matches(pattern.as_bytes(), canonical_alias.as_bytes())
                || canonical(pattern) == canonical_alias;
            if is_match && self.has(name) && !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// What to load for `name`.
    #[must_use]
    pub fn plan(&self, name: &str) -> Plan {
        let mut plan = Plan::default();
        let mut visited = BTreeSet::new();
        self.add(name, &mut visited, &mut plan);
        plan
    }

    fn add(&self, name: &str, visited: &mut BTreeSet<String>, plan: &mut Plan) {
        let Some(module) = self.modules.get(name) else {
            return;
        };
        if !visited.insert(name.to_owned()) {
            return;
        }
        for need in &module.needs {
            self.add(need, visited, plan);
        }
        plan.soft.extend(module.wants.iter().cloned());
        plan.hard.push((name.to_owned(), module.path.clone()));
    }

    /// `kernel/a/b.ko.xz: kernel/c.ko.xz kernel/d.ko.xz`
    fn read_depends(&mut self, folder: &Path, text: &str) {
        for line in text.lines() {
            let Some((file, needs)) = line.split_once(':') else {
                continue;
            };
            let path = folder.join(file);
            let Some(name) = module_name(file).filter(|_| path.exists()) else {
                continue;
            };
            // depmod lists them so that the last must be loaded first.
            let needs = needs.split_whitespace().rev().filter_map(module_name);
            let module = Module {
                path,
                needs: needs.collect(),
                wants: Vec::new(),
            };
            self.modules.insert(name, module);
        }
    }

    /// `softdep ext4 pre: crc32c post: other`
    fn read_softdeps(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("softdep") {
                continue;
            }
            let name = words.next().map(canonical).unwrap_or_default();
            if let Some(module) = self.modules.get_mut(&name) {
                module.wants.extend(wanted(words));
            }
        }
    }

    /// `alias pci:v00008086d* ahci`
    fn read_aliases(&mut self, text: &str) {
        for line in text.lines() {
            let Some((pattern, name)) = line
                .strip_prefix("alias ")
                .and_then(|line| line.trim_end().rsplit_once(' '))
            else {
                continue;
            };
            let name = canonical(name);
            if self.has(&name) {
                self.aliases.push((pattern.to_owned(), name));
            }
        }
    }

    /// Every module file below `folder`, with what its own `.modinfo` says.
    fn read_modules(&mut self, folder: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                self.read_modules(&path)?;
                continue;
            }
            let Some(name) = path.to_str().and_then(module_name) else {
                continue;
            };
            // A file that cannot be unpacked is found out when it is wanted.
            let strings = modinfo::strings(&file::read(&path).unwrap_or_default());
            let mut module = Module {
                path,
                ..Module::default()
            };
            for (key, value) in strings {
                match key.as_str() {
                    "depends" => module.needs.extend(
                        value
                            .split(',')
                            .filter(|need| !need.is_empty())
                            .map(canonical),
                    ),
                    "softdep" => module.wants.extend(wanted(value.split_whitespace())),
                    "alias" => self.aliases.push((value, name.clone())),
                    _ => {}
                }
            }
            self.modules.insert(name, module);
        }
        Ok(())
    }
}

/// The names after `pre:`; what comes after the module is not worth waiting for.
fn wanted<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut wanted = Vec::new();
    let mut is_before = false;
    for word in words {
        match word {
            "pre:" => is_before = true,
            "post:" => is_before = false,
            name if is_before => wanted.push(canonical(name)),
            _ => {}
        }
    }
    wanted
}

/// Shell pattern with `*`, `?` and `[…]`, as depmod writes them.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on if what follows the last `*` does not fit: one more byte for the star.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (pattern, text) {
            ([b'*', rest @ ..], _) => {
                retry = Some((rest, text));
                Some((rest, text))
            }
            ([], []) => return true,
            ([b'[', ..], [byte, tail @ ..]) => set(pattern, *byte).map(|pattern| (pattern, tail)),
            ([b'?', rest @ ..], [_, tail @ ..]) => Some((rest, tail)),
            ([same, rest @ ..], [byte, tail @ ..]) if same == byte => Some((rest, tail)),
            _ => None,
        };
        (pattern, text) = match (step, retry) {
            (Some(step), _) => step,
            (None, Some((after_star, [_, tail @ ..]))) => {
                retry = Some((after_star, tail));
                (after_star, tail)
            }
            (None, _) => return false,
        };
    }
}

/// What follows the set at the start of `pattern`, if `byte` is in the set.
fn set(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let end = pattern.iter().position(|&byte| byte == b']')?;
    let (members, rest) = (pattern.get(1..end)?, pattern.get(end + 1..)?);
    let mut members = members;
    while let [first, tail @ ..] = members {
        let (last, tail) = match tail {
            [b'-', last, tail @ ..] => (last, tail),
            _ => (first, tail),
        };
        if (*first..=*last).contains(&byte) {
            return Some(rest);
        }
        members = tail;
    }
    None
}

/// Every `modalias` file below `folder`: what each device is. Links are not followed.
pub(super) fn modaliases(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else if entry.file_name() == "modalias"
                && let Ok(text) = std::fs::read_to_string(entry.path())
            {
                found.extend(text.lines().map(str::to_owned));
            }
        }
    }
    found.retain(|modalias| !modalias.is_empty());
    found
}

/// What the kernel's command line says about modules: `usb_storage.quirks=` and the like, and
/// `modprobe.blacklist=`.
#[derive(Debug, Default)]
pub(super) struct Options {
    of_module: BTreeMap<String, Vec<String>>,
    blacklist: BTreeSet<String>,
}

impl Options {
    pub(super) fn of(words: &str) -> Self {
        let mut options = Self::default();
        for word in cmdline::split(words).words {
            let Some((module, name)) = word.name.split_once('.') else {
                continue;
            };
            let value = word.value.unwrap_or_default();
            if (module, name) == ("modprobe", "blacklist") {
                options.blacklist.extend(value.split(',').map(canonical));
                continue;
            }
            let option = if value.contains(' ') {
                format!("{name}=\"{value}\"")
            } else {
                format!("{name}={value}")
            };
            let of_module = options.of_module.entry(canonical(module)).or_default();
            of_module.push(option.trim_end_matches('=').to_owned());
        }
        options
    }

    pub(super) fn of_module(&self, name: &str) -> String {
        self.of_module
            .get(name)
            .map_or_else(String::new, |options| options.join(" "))
    }

    pub(super) fn is_blacklisted(&self, name: &str) -> bool {
        self.blacklist.contains(name)
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
