//! The verifier: one VM after the other is shown images, each on the same disk, and says what it found.
//!
//! A guest says `READY`; the image is written to the stick's file, whose partitions are where they were, and
//! then the request to the file of a second disk, which the guest reads until it sees one. So a boot serves
//! for many images. An image at which a VM got stuck counts as failed; the next one gets a new VM.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::record::machine;
use super::stick::On;
use crate::judge::last_words;
use crate::media::Bus;
use crate::run::Bed;

/// What an image must endure before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// Its file system is checked and repaired, as distributions do when a stick is plugged in or at boot.
    Fsck,
}

/// An answer of the guest.
#[derive(Debug)]
pub(super) enum Verdict {
    Sound,
    Failed(String),
}

/// How long an image may take: a second or two without KVM, on a quiet machine.
const LONGEST: Duration = Duration::from_secs(120);

/// A VM that waits for images.
#[derive(Debug)]
pub(super) struct Verifier<'a> {
    bed: &'a Bed,
    on: On,
    base: PathBuf,
    dir: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    vm: thread::JoinHandle<Result<()>>,
    report: Report,
    asked: u64,
}

impl<'a> Verifier<'a> {
    /// No VM yet; `base` is what the cowfile is for, `dir` where all files go.
    pub(super) fn new(bed: &'a Bed, on: On, base: &Path, dir: &Path) -> Self {
        Self {
            bed,
            on,
            base: base.to_owned(),
            dir: dir.to_owned(),
            running: None,
        }
    }

    /// Shows an image to the guest, and waits for what it says.
    pub(super) fn verify(&mut self, image: &[u8], before: Before) -> Result<Verdict> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        if running.asked == 0 && running.report.wait(" READY", &running.vm)?.is_none() {
            self.end(running)?;
            let serial = fs::read(self.log())?;
            let console: Vec<String> = String::from_utf8_lossy(&serial)
                .lines()
                .map(str::to_owned)
                .collect();
            let last = last_words(&console).join("\n  ");
            return Ok(Verdict::Failed(format!(
                "the verifier's VM did not start\n  {last}"
            )));
        }
        self.write("verified", image)?;
        running.asked += 1;
        let how = match before {
            Before::Nothing => "plain",
            Before::Fsck => "fsck",
        };
        self.ask(&format!("{} {how}", running.asked))?;
        let line = running.report.wait(" VERDICT ", &running.vm)?;
        let said = line.as_deref().and_then(|l| l.split_once(" VERDICT "));
        if let Some((_, "sound")) = said {
            self.running = Some(running);
            return Ok(Verdict::Sound);
        }
        // Something may still be in use; an image must not suffer for another.
        self.end(running)?;
        let why = said.map_or("the VM ended, or stood still", |(_, why)| why);
        Ok(Verdict::Failed(why.to_owned()))
    }

    /// What the last VM said, or says.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("serial.log")
    }

    /// Lets the guest end.
    pub(super) fn finish(mut self) -> Result<()> {
        match self.running.take() {
            Some(running) => self.end(running),
            None => Ok(()),
        }
    }

    fn ask(&self, text: &str) -> Result<()> {
        let mut sector = format!("{text}\n").into_bytes();
        sector.resize(4096, b' ');
        self.write("asked", &sector)
    }

    /// Writes over what a file begins with, which a VM has open.
    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let mut file = File::options().write(true).open(self.dir.join(name))?;
        Ok(file.write_all(content)?)
    }

    fn start(&self) -> Result<Running> {
        let (stick, asked) = (self.dir.join("verified"), self.dir.join("asked"));
        // The kernel looks for partitions only once.
        fs::copy(self.dir.join("stick"), &stick)?;
        fs::write(&asked, [b' '; 4096])?;
        let media = [
            (Bus::Exchanged, &*stick),
            (Bus::Exchanged, &*self.base),
            (Bus::Exchanged, &*asked),
        ];
        let words = format!("powercut={}", self.on.name());
        let machine = machine(self.bed, ("powercut-verify", &words), &media)?;
        let _absent = fs::remove_file(self.dir.join("report"));
        let dir = self.dir.clone();
        let vm = thread::spawn(move || machine.run(&dir, Duration::from_hours(4)).map(drop));
        let report = Report {
            path: self.dir.join("report"),
            file: None,
            text: String::new(),
        };
        Ok(Running {
            vm,
            report,
            asked: 0,
        })
    }

    fn end(&self, running: Running) -> Result<()> {
        self.ask(&format!("{} end", running.asked + 1))?;
        let start = Instant::now();
        while !running.vm.is_finished() && start.elapsed() < Duration::from_secs(30) {
            thread::sleep(Duration::from_millis(50));
        }
        if !running.vm.is_finished() {
            crate::qmp::Qmp::connect(&self.dir.join("qmp"))?
                .call("quit", &serde_json::json!({}))
                .ok();
        }
        running
            .vm
            .join()
            .unwrap_or_else(|_| bail!("the VM's thread panicked"))
    }
}

/// The lines a guest reports, as they come.
#[derive(Debug)]
struct Report {
    path: PathBuf,
    file: Option<File>,
    text: String,
}

impl Report {
    /// The next line that contains `text`; none if the VM ends or is silent for too long.
    fn wait(&mut self, text: &str, vm: &thread::JoinHandle<Result<()>>) -> Result<Option<String>> {
        let start = Instant::now();
        while start.elapsed() < LONGEST {
            let ended = vm.is_finished();
            if self.file.is_none() {
                self.file = File::open(&self.path).ok();
            }
            if let Some(file) = &mut self.file {
                file.read_to_string(&mut self.text)
                    .context("reading the guest's report")?;
            }
            while let Some((line, rest)) = self.text.split_once('\n') {
                let line = line.trim_end().to_owned();
                self.text = rest.to_owned();
                if line.contains(text) {
                    return Ok(Some(line));
                }
            }
            if ended {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(None)
    }
}
