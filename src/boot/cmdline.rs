//! The kernel command line: split as the kernel splits it, and read into a [`Plan`].
//!
//! Pure: text in, plan or problems out. Every problem is reported, not just the first, for each
//! attempt costs its user a reboot.

mod line;
mod values;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use line::{Line, Word, split};

use super::merge::MergePolicy;
use crate::daemon::LOST_S;
use crate::media::cow_source::{CowSource, Fallback};
use crate::media::nfs;
use crate::media::open::{CowStore, Durability, TmpfsSize};
use crate::media::session::Wish;
use crate::media::source::{Base, Source};

/// What a boot is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is never written.
    pub base: Base,
    /// What takes the writes.
    pub cow: Cow,
    /// Which session of a cowfile.
    pub session: Wish,
    /// What to do if that is not there.
    pub fallback: Fallback,
    /// When that becomes durable.
    pub durability: Durability,
    /// Whether a session is merged into its base before it is served.
    pub merge: MergePolicy,
    /// How long to wait for the medium.
    pub wait: Duration,
    /// For how many seconds a medium that was pulled out is waited for.
    pub lost_s: u32,
    /// How to mount a medium that is a server's.
    pub nfs: nfs::Options,
    /// What the kernel and other initramfs are told of the network, each `ip=`.
    pub ip: Vec<String>,
    /// Whether to say more.
    pub debug: bool,
    /// The kernel's words for mounting the root and starting init.
    pub root: RootWords,
}

/// What takes the writes of a booted system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cow {
    /// RAM.
    Tmpfs(TmpfsSize),
    /// A cowfile on a medium.
    Medium(CowSource),
}

impl fmt::Display for Cow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tmpfs(size) => CowStore::Tmpfs(*size).fmt(f),
            Self::Medium(source) => source.fmt(f),
        }
    }
}

/// The kernel's own words that keep their meaning. As for the kernel, the last one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootWords {
    /// `rootfstype=`
    pub kind: Option<String>,
    /// `rootflags=`
    pub options: Option<String>,
    /// `ro`: a live root is writable unless this is said.
    pub read_only: bool,
    /// `init=`
    pub init: Option<String>,
    /// What follows `--`: arguments of init.
    pub init_args: Vec<String>,
}

/// All that is wrong with a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reading the kernel command line: ")?;
        match self.0.as_slice() {
            [one] => f.write_str(one),
            several => {
                write!(f, "{} problems:", several.len())?;
                several.iter().try_for_each(|one| write!(f, "\n  {one}"))
            }
        }
    }
}

impl std::error::Error for Problems {}

/// What a word of ours may say in this version.
enum Meaning {
    /// Read by [`Plan::parse`].
    Plan,
    /// These values say what happens anyway; no other is available.
    Only(&'static [&'static str]),
    /// Known, and not available.
    Later,
}

const WORDS: &[(&str, Meaning)] = &[
    ("cowroot", Meaning::Plan),
    ("cowroot.cow", Meaning::Plan),
    ("cowroot.wait", Meaning::Plan),
    ("cowroot.debug", Meaning::Plan),
    ("cowroot.session", Meaning::Plan),
    ("cowroot.durability", Meaning::Plan),
    ("cowroot.onfull", Meaning::Only(&["error"])),
    ("cowroot.fallback", Meaning::Plan),
    ("cowroot.merge", Meaning::Plan),
    ("cowroot.lost", Meaning::Plan),
    ("cowroot.root", Meaning::Later),
    ("cowroot.size", Meaning::Later),
    ("cowroot.growfs", Meaning::Later),
    ("cowroot.toram", Meaning::Later),
    ("cowroot.verify", Meaning::Later),
    ("cowroot.nfsopts", Meaning::Plan),
];

impl Plan {
    /// Read a kernel command line.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let line = split(text);
        let mut ours = Ours::of(&line.words);
        let base = ours.base(&line.words);
        let cow = ours.read("cowroot.cow", values::cow);
        let session = ours.session(cow.as_ref());
        let fallback = ours.read("cowroot.fallback", str::parse);
        let durability = ours.read("cowroot.durability", str::parse);
        let merge = ours.merge(base.as_ref(), cow.as_ref());
        let wait = ours.read("cowroot.wait", values::wait);
        let lost_s = ours.read("cowroot.lost", values::lost);
        let debug = ours.read("cowroot.debug", values::flag);
        let nfs = ours.read("cowroot.nfsopts", nfs::Options::from_str);
        if let (Some(base), Some(_)) = (&base, &nfs)
            && !matches!(base.medium, Source::Nfs(_))
        {
            let problem = format!(
                "'cowroot.nfsopts' is given, and the base '{base}' is not on NFS; drop one of them"
            );
            ours.problems.push(problem);
        }
        let ip = line.words.iter().filter(|word| word.name == "ip");
        let ip = ip.filter_map(|word| word.value.clone()).collect();
        let root = RootWords::of(line);
        match base {
            Some(base) if ours.problems.is_empty() => Ok(Self {
                base,
                cow: cow.unwrap_or(Cow::Tmpfs(TmpfsSize::Percent(50))),
                session: session.unwrap_or(Wish::Resume(None)),
                fallback: fallback.unwrap_or(Fallback::Fail),
                durability: durability.unwrap_or(Durability::Flush),
                merge: merge.unwrap_or_default(),
                wait: wait.unwrap_or(Duration::from_secs(30)),
                lost_s: lost_s.unwrap_or(LOST_S),
                nfs: nfs.unwrap_or_default(),
                ip,
                debug: debug.unwrap_or(false),
                root,
            }),
            _ => Err(Problems(ours.problems)),
        }
    }
}

/// The words that are ours, and what is wrong with them.
struct Ours {
    values: Vec<(String, String)>,
    problems: Vec<String>,
}

impl Ours {
    fn of(words: &[Word]) -> Self {
        let mut ours = Self {
            values: Vec::new(),
            problems: Vec::new(),
        };
        for word in words {
            // Also `cowroot_wait`: a misspelled word must not pass for nothing.
            if word.name.starts_with("cowroot") {
                ours.take(&word.name, word.value.as_deref().unwrap_or_default());
            }
        }
        ours
    }

    fn take(&mut self, name: &str, value: &str) {
        let known = WORDS.iter().find(|(known, _)| *known == name);
        let problem = match known.map(|(_, meaning)| meaning) {
            None => Some(unknown(name)),
            Some(Meaning::Later) => Some(format!("'{name}' is not available in this version")),
            Some(Meaning::Only(values)) if !values.contains(&value) => Some(format!(
                "'{name}={value}' is not available in this version; only {} is",
                values.join(" or ")
            )),
            Some(Meaning::Only(_) | Meaning::Plan) => None,
        };
        if let Some(problem) = problem {
            self.problems.push(problem);
            return;
        }
        match self.values.iter().find(|(before, _)| before == name) {
            Some((_, before)) if before == value => {}
            Some((_, before)) => self.problems.push(format!(
                "'{name}' is given twice, as '{before}' and as '{value}'; keep one"
            )),
            None => self.values.push((name.to_owned(), value.to_owned())),
        }
    }

    fn read<T>(&mut self, name: &str, read: fn(&str) -> Result<T, String>) -> Option<T> {
        let (_, value) = self.values.iter().find(|(known, _)| known == name)?;
        match read(value) {
            Ok(read) => Some(read),
            Err(problem) => {
                self.problems.push(format!("'{name}': {problem}"));
                None
            }
        }
    }

    fn session(&mut self, cow: Option<&Cow>) -> Option<Wish> {
        let wish = self.read("cowroot.session", Wish::from_str)?;
        if self.is_in_ram(cow) && wish != Wish::Resume(None) {
            self.problems.push(format!(
                "'cowroot.session={wish}' needs a cowfile; name it with cowroot.cow=, or drop the word"
            ));
        }
        Some(wish)
    }

    /// What merges everything at each boot needs something to merge, and a base that a boot can write.
    fn merge(&mut self, base: Option<&Base>, cow: Option<&Cow>) -> Option<MergePolicy> {
        let policy = self.read("cowroot.merge", str::parse)?;
        if policy != MergePolicy::Yes {
            return Some(policy);
        }
        if self.is_in_ram(cow) {
            let problem =
                "'cowroot.merge=yes' needs a cowfile; name it with cowroot.cow=, or drop the word";
            self.problems.push(problem.to_owned());
        }
        if let Some(base) = base
            && (matches!(base.medium, Source::Nfs(_)) || base.path.len() > 1)
        {
            self.problems.push(format!(
                "'cowroot.merge=yes' is given, and a boot cannot write the base '{base}', which is on a server or in an \
                 image; drop the word"
            ));
        }
        Some(policy)
    }

    fn is_in_ram(&self, cow: Option<&Cow>) -> bool {
        let is_named = self.values.iter().any(|(name, _)| name == "cowroot.cow");
        cow.map_or(!is_named, |cow| matches!(cow, Cow::Tmpfs(_)))
    }

    fn base(&mut self, words: &[Word]) -> Option<Base> {
        if self.values.iter().any(|(name, _)| name == "cowroot") {
            return self.read("cowroot", Base::from_str);
        }
        let misspelled = words
            .iter()
            .find(|word| word.name != "cowroot" && distance(&word.name, "cowroot") <= 2);
        self.problems.push(match misspelled {
            Some(word) => format!(
                "the word 'cowroot=<base>' is missing; is '{}' meant for it?",
                word.name
            ),
            None => "the word 'cowroot=<base>' is missing; it names what to boot, e.g. \
                     cowroot=LABEL=LIVE:/live/root.img"
                .to_owned(),
        });
        None
    }
}

fn unknown(name: &str) -> String {
    let nearest = WORDS
        .iter()
        .map(|(known, _)| (distance(name, known), known))
        .min();
    match nearest {
        Some((0..=2, known)) => format!("'{name}' is unknown; is '{known}' meant?"),
        _ => {
            let known: Vec<_> = WORDS
                .iter()
                .filter(|(_, meaning)| !matches!(meaning, Meaning::Later))
                .map(|(known, _)| *known)
                .collect();
            format!("'{name}' is unknown; there are {}", known.join(", "))
        }
    }
}

/// How many letters must be added, dropped or changed to make one of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut left = at + 1;
        let mut next = vec![left];
        for (above, theirs) in row.windows(2).zip(&other) {
            let [diagonal, above] = above else { continue };
            left = (left + 1)
                .min(above + 1)
                .min(diagonal + usize::from(letter != *theirs));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

impl RootWords {
    fn of(line: Line) -> Self {
        let mut root = Self {
            init_args: line.init_args,
            ..Self::default()
        };
        for Word { name, value } in line.words {
            match (name.as_str(), value) {
                ("ro", None) => root.read_only = true,
                ("rw", None) => root.read_only = false,
                ("rootfstype", value) => root.kind = value.filter(|value| !value.is_empty()),
                ("rootflags", value) => root.options = value.filter(|value| !value.is_empty()),
                ("init", value) => root.init = value,
                _ => {}
            }
        }
        root
    }
}

/// Whether a command line asks for cowroot at all, rightly or wrongly spelled.
#[must_use]
pub fn is_asked(text: &str) -> bool {
    let words = split(text).words;
    words.iter().any(|word| word.name.starts_with("cowroot"))
}

#[cfg(test)]
#[path = "cmdline_tests.rs"]
mod tests;
