//! Runs one case and judges it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::accel::Accel;
use crate::apt::{Apt, SUITE};
use crate::cache::Cache;
use crate::case::Case;
use crate::command::{run, sha256};
use crate::cut::Cut;
use crate::initramfs::ensure_static;
use crate::judge::{judge, last_words, left_well};
use crate::kernel::Kernel;
use crate::loader::Loader;
use crate::media::{Bus, Content, Maker, Medium};
use crate::nfs::Network;
use crate::qemu::{Machine, Outcome};

/// What all cases share: the binary under test, the kernel, the packages.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) cache: Cache,
    pub(crate) apt: Apt,
    /// By suite, each got with the first case that boots it.
    kernels: RefCell<BTreeMap<&'static str, Rc<Kernel>>>,
    pub(crate) binary: PathBuf,
    pub(crate) accel: Accel,
    /// Where logs and this run's copies of media go.
    pub(crate) runs: PathBuf,
}

impl Bed {
    /// Gets everything ready that does not depend on a case.
    pub(crate) fn open() -> Result<Self> {
        let binary = std::env::var_os("COWROOT_BIN").map(PathBuf::from);
        let binary = binary.context(
            "COWROOT_BIN does not name the binary to test; `make vm` builds it and does",
        )?;
        ensure!(
            binary.is_file(),
            "COWROOT_BIN: no file '{}'; `make build` makes it",
            binary.display()
        );
        ensure_static(&binary, "`make build` makes a static one")?;
        let cache = Cache::open()?;
        let apt = Apt::open(&cache, SUITE)?;
        let kernel = Kernel::get(&cache, &apt)?;
        let accel = Accel::choose(&kernel.vmlinuz)?;
        let runs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm");
        static SAID: Once = Once::new();
        SAID.call_once(|| eprintln!("vm: {accel:?}, logs in {}", runs.display()));
        Ok(Self {
            cache,
            apt,
            kernels: RefCell::new(BTreeMap::from([(SUITE, Rc::new(kernel))])),
            binary,
            accel,
            runs,
        })
    }

    /// A suite's kernel.
    pub(crate) fn kernel(&self, suite: &'static str) -> Result<Rc<Kernel>> {
        if let Some(kernel) = self.kernels.borrow().get(suite) {
            return Ok(Rc::clone(kernel));
        }
        let apt = Apt::open(&self.cache, suite)?;
        let kernel = Rc::new(Kernel::get(&self.cache, &apt)?);
        let mut kernels = self.kernels.borrow_mut();
        Ok(Rc::clone(kernels.entry(suite).or_insert(kernel)))
    }

    /// Where a case's logs go.
    fn dir(&self, case: &Case) -> PathBuf {
        self.runs.join(case.name.replace(' ', "-"))
    }

    /// Runs one case. An error says what did not hold, and where the log is.
    pub(crate) fn run(&self, case: &Case) -> Result<Outcome> {
        let dir = self.dir(case);
        fs::create_dir_all(&dir).with_context(|| format!("making '{}'", dir.display()))?;
        let mut machine = self.machine(case, &dir)?;
        let words = machine.words.clone();
        let before = sums(&machine.media)?;
        let mut outcome = Outcome::default();
        let mut judged = Ok(());
        for boot in 1..=case.boots {
            if case.boots > 1 {
                let own = case.each.get(boot as usize - 1).unwrap_or(&"");
                machine.words = format!("{words} {own} boot={boot}");
            }
            machine.cut = (2..=case.cuts + 1)
                .contains(&boot)
                .then(|| Cut::of_a_merge(case));
            outcome = machine.run(&dir, Duration::from_secs(case.quiet_s * 5))?;
            judged = match machine.cut {
                Some(cut) => cut.judge(&outcome),
                None => judge(case, &machine.words, &outcome)
                    .and_then(|()| left_well(case, &machine.media)),
            };
            if judged.is_err() {
                break;
            }
        }
        let judged = judged.and_then(|()| {
            ensure!(
                sums(&machine.media)? == before,
                "a medium was written: its sha256 changed"
            );
            Ok(())
        });
        // Copies of media are large; the log is what is kept.
        let copies = machine.media.iter().map(|(_, file)| file);
        for file in copies.filter(|file| file.starts_with(&dir)) {
            fs::remove_file(file)?;
        }
        match judged {
            Ok(()) => Ok(outcome),
            Err(why) => {
                let last = last_words(&outcome.console).join("\n  ");
                let log = dir.join("serial.log");
                Err(anyhow!("{why:#}\n  {last}\nserial log: {}", log.display()))
            }
        }
    }

    /// The demo's machine: the first case's, without its check unless `guest` names one.
    pub(crate) fn demo(&self, case: &Case, interactive: bool) -> Result<bool> {
        if !interactive {
            let outcome = self.run(case)?;
            for line in outcome
                .console
                .iter()
                .filter_map(|l| l.strip_prefix("demo: "))
            {
                println!("{line}");
            }
            return Ok(true);
        }
        let mut qemu = self.machine(case, &self.runs)?.command();
        qemu.args([
            "-chardev",
            "stdio,id=console,mux=on,signal=off",
            "-serial",
            "chardev:console",
        ])
        .args(["-mon", "chardev=console"])
        .stdin(std::process::Stdio::inherit());
        Ok(qemu
            .status()
            .context("starting 'qemu-system-x86_64'")?
            .success())
    }

    /// The case's machine; what the guest could write is a copy in `dir`.
    fn machine(&self, case: &Case, dir: &Path) -> Result<Machine> {
        let kernel = self.kernel(case.kernel)?;
        let initramfs = case.initramfs.get(&self.cache, &kernel, &self.binary)?;
        let network = case.server.map(|server| Network::start(server, self, dir));
        let network = network.transpose()?;
        let words = case.command_line();
        Ok(Machine {
            accel: self.accel,
            memory_mib: case.memory_mib,
            memory_at_once: false,
            cut: None,
            firmware: case.firmware,
            vmlinuz: kernel.vmlinuz.clone(),
            words: match &network {
                Some(network) => network.words(&words),
                None => words,
            },
            network,
            media: self.media(case, dir, &kernel, &initramfs)?,
            initramfs,
        })
    }

    fn maker<'a>(&'a self, loader: &'a Loader<'a>, kernel: &'a Kernel) -> Maker<'a> {
        Maker {
            cache: &self.cache,
            apt: &self.apt,
            binary: &self.binary,
            loader,
            release: &kernel.release,
        }
    }

    /// A copy at `copy` of a medium that boots nothing.
    pub(crate) fn copy_of(
        &self,
        medium: Medium,
        kernel: &Kernel,
        initramfs: &Path,
        copy: &Path,
    ) -> Result<PathBuf> {
        let loader = Loader {
            vmlinuz: &kernel.vmlinuz,
            initramfs,
            settings: String::new(),
        };
        let maker = self.maker(&loader, kernel);
        copied(&maker.get(medium.content)?, copy)?;
        Ok(copy.to_owned())
    }

    /// The files that stand for the case's media: a copy where the guest could write.
    fn media(
        &self,
        case: &Case,
        dir: &Path,
        kernel: &Kernel,
        initramfs: &Path,
    ) -> Result<Vec<(Medium, PathBuf)>> {
        let loader = Loader {
            vmlinuz: &kernel.vmlinuz,
            initramfs,
            settings: case.menu_settings(self.accel),
        };
        let maker = self.maker(&loader, kernel);
        let media = case.media.iter().enumerate().map(|(number, medium)| {
            let made = maker.get(medium.content)?;
            if medium.bus == Bus::Cd {
                return Ok((*medium, made));
            }
            let copy = dir.join(format!("medium{number}"));
            copied(&made, &copy)?;
            if matches!(medium.bus, Bus::Usb | Bus::UsbLate(_)) {
                let stick = fs::File::options().write(true).open(&copy)?;
                stick.set_len(stick.metadata()?.len() + LARGER)?;
            }
            Ok((*medium, copy))
        });
        media.collect()
    }
}

fn copied(made: &Path, copy: &Path) -> Result<()> {
    let paths = [made.as_os_str(), copy.as_os_str()];
    run("cp", ["--sparse=always".as_ref()].into_iter().chain(paths)).map(drop)
}

/// Who copies an ISO to a stick seldom has one of just that size: what should be at the end is not.
const LARGER: u64 = 64 << 20;

/// What must be the same afterwards: media as a whole, and the base on one that holds the cowfile, too.
fn sums(media: &[(Medium, PathBuf)]) -> Result<Vec<String>> {
    let mut sums = Vec::new();
    for (medium, file) in media {
        match medium.content {
            Content::Pocket(fs) => {
                let base = tempfile::NamedTempFile::new()?;
                fs.extract(file, "live/root.img", base.path())?;
                sums.push(sha256(base.path())?);
            }
            content if content.is_written() => {}
            _ => sums.push(sha256(file)?),
        }
    }
    Ok(sums)
}
