//! The devices that are compared: a base and a session on it, served so that nothing is written but RAM.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::boot::{device, modules::Modules};
use crate::cli::diff::Diff;
use crate::daemon::{self, Attached, Options, detach};
use crate::media::open::{CowStore, Durability, TmpfsSize};
use crate::media::partition;
use crate::media::probe::probe;
use crate::media::session::Wish;
use crate::ublk;

/// For how long the nodes of partitions may be waited for.
const NODE: Duration = Duration::from_secs(5);
/// For how long udev may look at a device that is to go.
const FREE: Duration = Duration::from_secs(5);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cmd) enum Side {
    Base,
    Session,
}

/// A file system to mount.
#[derive(Debug, Clone)]
pub(in crate::cmd) struct Volume {
    pub(in crate::cmd) device: PathBuf,
    /// Its type.
    pub(in crate::cmd) kind: &'static str,
    pub(in crate::cmd) is_read_only: bool,
}

/// All that is served for this.
#[derive(Debug, Default)]
pub(in crate::cmd) struct Devices {
    /// In the order in which they were made: a later one may stand on an earlier one.
    served: Vec<Attached>,
    base: Option<Volume>,
    session: Option<Volume>,
}

/// Have the driver of such devices.
pub(in crate::cmd) fn load_driver() -> anyhow::Result<()> {
    if !Path::new(ublk::CONTROL).exists() {
        device::load_ublk(&Modules::open()?)?;
    }
    Ok(())
}

impl Devices {
    /// Serve both. The session first: it knows whether that is its base.
    pub(in crate::cmd) fn serve(&mut self, diff: &Diff) -> anyhow::Result<()> {
        let session = self.launch(&session(diff))?;
        let base = self.launch(&base(diff))?;
        self.session = Some(volume(&session, &diff.cowfile, diff.partition)?);
        self.base = Some(volume(&base, &diff.base, diff.partition)?);
        Ok(())
    }

    /// Serve the session alone.
    pub(in crate::cmd) fn serve_session(&mut self, diff: &Diff) -> anyhow::Result<()> {
        let session = self.launch(&session(diff))?;
        self.session = Some(volume(&session, &diff.cowfile, diff.partition)?);
        Ok(())
    }

    /// What is to be mounted.
    pub(in crate::cmd) fn volume(&self, side: Side) -> anyhow::Result<&Volume> {
        let volume = match side {
            Side::Base => &self.base,
            Side::Session => &self.session,
        };
        volume.as_ref().context("comparing: nothing is served")
    }

    /// Stack a layer in RAM on one of them, which a journal can be replayed into.
    pub(in crate::cmd) fn replay(&mut self, side: Side) -> anyhow::Result<()> {
        let Volume { device, kind, .. } = self.volume(side)?.clone();
        log::debug!(
            "'{}' was not unmounted: its journal is replayed into RAM",
            device.display()
        );
        let layered = Volume {
            device: self.launch(&layer(&device))?,
            kind,
            is_read_only: false,
        };
        match side {
            Side::Base => self.base = Some(layered),
            Side::Session => self.session = Some(layered),
        }
        Ok(())
    }

    fn launch(&mut self, options: &Options) -> anyhow::Result<PathBuf> {
        let attached = daemon::launch(options)?;
        let device = attached.device();
        self.served.push(attached);
        Ok(device)
    }

    /// Take all of them away, the last one first.
    pub(in crate::cmd) fn detach(self) -> anyhow::Result<()> {
        let mut result = Ok(());
        for attached in self.served.iter().rev() {
            let detached = detach_when_free(attached.id);
            result = result.and(detached);
        }
        result
    }
}

/// Whoever mounted it has ended; udev may still be looking at it.
fn detach_when_free(id: u32) -> anyhow::Result<()> {
    let deadline = Instant::now() + FREE;
    loop {
        match detach::one(id) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => {
                return Err(error).context("taking away what was served for the comparison");
            }
            Ok(_) => return Ok(()),
        }
    }
}

/// A session as it is read: its cowfile, and nothing is written to it.
fn session(diff: &Diff) -> Options {
    Options {
        session: Wish::Resume(diff.session.clone()),
        ..read_only(&diff.base, CowStore::File(diff.cowfile.clone()))
    }
}

/// A base as if nobody had written to it.
fn base(diff: &Diff) -> Options {
    /// It stays empty.
    const LEAST: TmpfsSize = TmpfsSize::Bytes(1 << 20);
    read_only(&diff.base, CowStore::Tmpfs(LEAST))
}

fn layer(device: &Path) -> Options {
    Options {
        read_only: false,
        ..read_only(device, CowStore::Tmpfs(TmpfsSize::Percent(50)))
    }
}

fn read_only(base: &Path, cow: CowStore) -> Options {
    Options {
        base: base.to_owned(),
        carrier: None,
        cow,
        notice: None,
        durability: Durability::Flush,
        id: None,
        size_bytes: None,
        session: Wish::Resume(None),
        read_only: true,
        lost_s: daemon::LOST_S,
    }
}

/// The file system on a device, or on one of its partitions. `whose` is what people know it by.
fn volume(device: &Path, whose: &Path, number: Option<u32>) -> anyhow::Result<Volume> {
    /// As the device has them.
    const SECTOR_BYTES: u64 = 512;
    let looking = || format!("looking for files in '{}'", whose.display());
    let place = match number {
        None => device.to_owned(),
        Some(number) => partition_of(device, number).with_context(looking)?,
    };
    let opened = File::open(&place).with_context(looking)?;
    match probe(&opened) {
        Some(content) => Ok(Volume {
            device: place,
            kind: content.kind,
            is_read_only: true,
        }),
        None if number.is_none() && partition::has_table(&opened, SECTOR_BYTES) => bail!(
            "{}: it is a whole disk with partitions; `cowroot diff --partition N` says which one is to be looked at",
            looking()
        ),
        None => bail!("{}: no file system is recognised", looking()),
    }
}

/// The node of a partition, which comes a moment after the device's.
fn partition_of(device: &Path, number: u32) -> anyhow::Result<PathBuf> {
    let place = PathBuf::from(format!("{}p{number}", device.display()));
    let deadline = Instant::now() + NODE;
    while !place.exists() {
        if Instant::now() >= deadline {
            bail!("it has no partition {number}; `sfdisk -l` shows those of a base");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(place)
}
