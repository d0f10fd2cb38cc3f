//! Debian packages for the guests, through a private apt state: the user's own apt is never touched.
//!
//! Where they come from is what this machine's administrator already chose: the Debian mirror apt is
//! configured with, be it a proxy, an internal copy or the public network. On a machine whose apt knows
//! none (Ubuntu), `DEBIAN_MIRROR` names it. The project itself names no host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::cache::{Cache, alone};
use crate::command::{command, output, step};

/// The release the guests run.
pub(crate) const SUITE: &str = "trixie";

/// The release before, with the kernel that its users can have and that has all we need.
pub(crate) const BACKPORTS: &str = "bookworm-backports";

/// The release before: dracut 059, systemd 252.
pub(crate) const BEFORE: &str = "bookworm";

/// The release whose kernel is the newest; it moves.
pub(crate) const NEWEST: &str = "sid";

/// What signs that release; from the package debian-archive-keyring.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Package lists older than this are fetched again.
const STALE: Duration = Duration::from_hours(7 * 24);

/// apt, looking at one suite and our folders only.
#[derive(Debug)]
pub(crate) struct Apt {
    dir: PathBuf,
    /// The suite its packages come from.
    pub(crate) suite: &'static str,
    /// The mirror, for mmdebstrap.
    pub(crate) mirror: String,
}

impl Apt {
    /// Prepares the private state, fetching package lists where there are none or old ones.
    pub(crate) fn open(cache: &Cache, suite: &'static str) -> Result<Self> {
        alone(|| Self::open_alone(cache, suite))
    }

    fn open_alone(cache: &Cache, suite: &'static str) -> Result<Self> {
        let mirror = mirror()?;
        if !Path::new(KEYRING).exists() {
            bail!("finding '{KEYRING}': not there; install debian-archive-keyring");
        }
        let dir = cache.state(&format!("apt.{suite}"))?;
        for sub in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        fs::write(dir.join("status"), "")?;
        let source = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        let apt = Self { dir, suite, mirror };
        let stamp = apt.dir.join("updated");
        let listed = fs::read_to_string(apt.dir.join("sources.list")).unwrap_or_default();
        let updated = fs::metadata(&stamp).and_then(|m| m.modified());
        let age = updated.map(|t| SystemTime::now().duration_since(t).unwrap_or_default());
        if listed == source && age.is_ok_and(|a| a < STALE) {
            return Ok(apt);
        }
        fs::write(apt.dir.join("sources.list"), &source)?;
        step(&format!("fetching {suite}'s package lists"), || {
            output(apt.get().arg("update")).map(drop)
        })?;
        fs::write(stamp, "")?;
        Ok(apt)
    }

    /// The versions of everything that `packages` pull in, one per line.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<String> {
        let said = output(
            self.get()
                .args([
                    "install",
                    "--simulate",
                    "--no-install-recommends",
                    "?essential",
                    "apt",
                ])
                .args(packages),
        )?;
        let mut lines: Vec<&str> = said.lines().filter(|l| l.starts_with("Inst ")).collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    /// `package` and all it depends on, by name.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let without = [
            "recommends",
            "suggests",
            "conflicts",
            "breaks",
            "replaces",
            "enhances",
        ];
        let said = output(
            self.tool("apt-cache")
                .args(["depends", "--recurse", package])
                .args(without.map(|kind| format!("--no-{kind}"))),
        )?;
        let names = said.lines().filter(|l| !l.starts_with([' ', '|', '<']));
        Ok(names.map(str::to_owned).collect())
    }

    /// The version of `package`.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        let said = output(
            self.tool("apt-cache")
                .args(["show", "--no-all-versions", package]),
        )?;
        let version = said.lines().find_map(|l| l.strip_prefix("Version: "));
        Ok(version
            .with_context(|| format!("finding the version of {package}"))?
            .to_owned())
    }

    /// Downloads `package` into `dir`; apt checks its hash. The file's path.
    pub(crate) fn download(&self, package: &str, dir: &Path) -> Result<PathBuf> {
        output(self.get().arg("download").arg(package).current_dir(dir))?;
        let deb = crate::cache::sorted(dir)?.into_iter().find(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".deb") && name.starts_with(&format!("{package}_"))
        });
        deb.with_context(|| format!("downloading {package}: no file came"))
    }

    /// Downloads `packages` and all they depend on into `dir`; apt checks their hashes.
    pub(crate) fn download_all(&self, packages: &[&str], dir: &Path) -> Result<()> {
        fs::create_dir_all(dir.join("partial"))?;
        let archives = format!("Dir::Cache::archives={}", dir.display());
        let words = ["install", "--download-only", "--no-install-recommends"];
        output(
            self.get()
                .arg("-o")
                .arg(archives)
                .args(words)
                .args(packages),
        )
        .map(drop)
    }

    fn get(&self) -> Command {
        let mut get = self.tool("apt-get");
        get.args(["-qq", "-o", "APT::Get::Assume-Yes=true"]);
        get
    }

    fn tool(&self, name: &str) -> Command {
        let mut tool = command(name);
        for (option, path) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::Status", "status"),
            ("Dir::Cache", "."),
        ] {
            tool.arg("-o")
                .arg(format!("{option}={}", self.dir.join(path).display()));
        }
        // sandbox: its user cannot write below a home folder; preferences and foreign
        // architectures are this machine's own business, not the guest's.
        tool.args([
            "-o",
            "Dir::Etc::SourceParts=-",
            "-o",
            "APT::Sandbox::User=root",
        ])
        .args([
            "-o",
            "Dir::Etc::Preferences=-",
            "-o",
            "Dir::Etc::PreferencesParts=-",
        ])
        .args([
            "-o",
            "APT::Architecture=amd64",
            "-o",
            "APT::Architectures=amd64",
        ])
        .args(["-o", "Acquire::Languages=none", "-o", "Dir::Etc::Trusted=-"]);
        // A mirror that lags may serve a list of sid past its date; what is released has none.
        if self.suite == NEWEST {
            tool.args(["-o", "Acquire::Check-Valid-Until=false"]);
        }
        tool
    }
}

/// The Debian mirror: `$DEBIAN_MIRROR`, or the one this machine's apt is configured with.
///
/// Before the first `apt-get update` apt does not know a source's origin; on Debian the source of the
/// machine's own release is then the one.
fn mirror() -> Result<String> {
    if let Some(mirror) = std::env::var("DEBIAN_MIRROR")
        .ok()
        .filter(|m| !m.is_empty())
    {
        return Ok(mirror);
    }
    let format = "$(ORIGIN)\t$(LABEL)\t$(RELEASE)\t$(REPO_URI)";
    let list = |more: &[&str]| {
        output(
            command("apt-get")
                .arg("indextargets")
                .args(more)
                .args(["--format", format]),
        )
    };
    // Without package lists apt shows its sources only when it need not know more about them.
    let known = list(&[]).ok().filter(|targets| !targets.trim().is_empty());
    let targets = known
        .or_else(|| list(&["--no-release-info"]).ok())
        .unwrap_or_default();
    let release = own_debian_release();
    let found = targets.lines().find_map(|line| {
        let mut fields = line.split('\t');
        let (origin, label) = (fields.next()?, fields.next()?);
        let (suite, uri) = (fields.next()?, fields.next()?);
        let known = origin == "Debian" && label == "Debian";
        // What it does not know apt prints as the format's own word.
        let unknown = origin.is_empty() || origin.starts_with("$(");
        let assumed = unknown && release.as_deref() == Some(suite);
        let fetchable = uri.starts_with("http:") || uri.starts_with("https:");
        ((known || assumed) && fetchable).then(|| uri.to_owned())
    });
    found.context(
        "finding a Debian mirror: this machine's apt knows none; name one in DEBIAN_MIRROR, \
         e.g. make test DEBIAN_MIRROR=http://<a Debian mirror>/debian",
    )
}

/// This machine's code name, if it is a Debian.
fn own_debian_release() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let value = |name: &str| {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
        line.map(|v| v.trim_matches('"').to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME"))?
}
