//! Base and cowfile of a device: opened by its first worker, taken over by those that come after it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use anyhow::Context;

use super::handover::{Kept, StoreState};
use super::store::{Serving, Store};
use super::{Options, confine, login, persistent, protect, volatile};
use crate::disk::base::{self, Base};
use crate::disk::cowfile::{CowFiles, Mode};
use crate::disk::over::Over;
use crate::disk::watch::{Stamp, Watch};
use crate::engine::cowfile::recover::recover;
use crate::engine::format::Shape;
use crate::engine::units::Limits;
use crate::media::mount;
use crate::media::namespace::{self, Left};
use crate::media::open::CowStore;
use crate::media::session::Wish;

/// What a first worker has opened.
pub(super) struct Opening {
    pub(super) base: Arc<Base>,
    pub(super) store: Store,
    pub(super) in_initramfs: bool,
    /// There the machine's /run, where logins to its root will look.
    pub(super) run: Option<File>,
}

/// Open base and cowfile, make this process hard to kill, and leave the machine's mounts.
pub(super) fn open_all(options: &Options, change: &'static AtomicU32) -> anyhow::Result<Opening> {
    let wishes = (options.size_bytes, &options.session);
    match &options.cow {
        CowStore::Tmpfs(size) => {
            let (base, left) = leave_with_base(Base::open(&options.base)?, options, change)?;
            let base = Arc::new(base);
            let device_bytes = base::device_size_bytes(base.size_bytes(), options.size_bytes)?;
            become_server();
            let store = volatile::store(*size, &base, device_bytes, options.read_only)?;
            Ok(left.with(base, store))
        }
        CowStore::File(path) if options.session == Wish::Throwaway => {
            let base = Base::open(&options.base)?;
            let opened = persistent::open(path, &base, true, wishes)?;
            let (base, left) = leave_with_base(base, options, change)?;
            become_server();
            let (base, store) = volatile::throwaway(path, opened, base)?;
            Ok(left.with(base, store))
        }
        CowStore::File(path) => {
            let base = Base::open(&options.base)?;
            let opened = persistent::open(path, &base, options.read_only, wishes)?;
            let (base, left) = leave_with_base(base, options, change)?;
            let base = Arc::new(base);
            become_server();
            let store = persistent::store(path, opened, &base, options.durability)?;
            Ok(left.with(base, store))
        }
    }
}

/// Be hard to kill, and do harm to nobody. Before there is another thread, for each has capabilities of its own.
pub(super) fn become_server() {
    protect::protect(c"cowroot");
    if let Err(error) = confine::drop_capabilities() {
        log::warn!("giving up capabilities: {error:#}; the device works all the same");
    }
}

/// What was left.
struct Machine {
    in_initramfs: bool,
    run: Option<File>,
}

impl Machine {
    fn with(self, base: Arc<Base>, store: Store) -> Opening {
        let Self { in_initramfs, run } = self;
        Opening {
            base,
            store,
            in_initramfs,
            run,
        }
    }
}

/// Leave the machine's mounts, so that nothing but what is open is held in use.
fn leave_with_base(
    everybodys: Base,
    options: &Options,
    change: &'static AtomicU32,
) -> anyhow::Result<(Base, Machine)> {
    let watch = || Watch::open(options.carrier.as_ref().unwrap_or(&options.base), change);
    let everybodys = everybodys.watched(watch()?);
    mount::private_namespace()?;
    // Before anything is mounted over its path: a boot's medium is below /run.
    let own = everybodys.opened_again()?;
    let own = own.map(|own| Ok(own.watched(watch()?))).transpose();
    let own: Option<Base> = own.map_err(|error: anyhow::Error| error)?;
    let run = namespace::is_ram(Path::new("/"))
        .then(|| login::open(Path::new("/run")))
        .flatten();
    let left = namespace::leave()?;
    let base = match (left, own) {
        // Through our own copy of its mount, so that a shutdown can unmount the one everybody sees.
        (Left::Initramfs, Some(own)) => own,
        // Elsewhere the one everybody sees is held: unmounting a base in use says that it is busy.
        _ => everybodys,
    };
    let in_initramfs = left == Left::Initramfs;
    Ok((base, Machine { in_initramfs, run }))
}

/// What another worker watched.
fn watch_again(kept: &Kept, change: &'static AtomicU32) -> anyhow::Result<Option<Watch>> {
    let Some(watched) = &kept.handover.watched else {
        return Ok(None);
    };
    let files: std::io::Result<Vec<File>> = kept.watched.iter().map(File::try_clone).collect();
    let files = <[File; 2]>::try_from(files.context("taking over the base")?);
    let files =
        files.map_err(|_| anyhow::anyhow!("taking over the base: a descriptor is missing"))?;
    let first = Stamp(watched.first);
    Watch::go_on(watched.path.clone(), files, first, change).map(Some)
}

/// The base that another worker read, with what lay over it.
pub(super) fn base_again(kept: &Kept, change: &'static AtomicU32) -> anyhow::Result<Base> {
    let report = &kept.handover.report;
    let base = kept.base.try_clone().context("taking over the base")?;
    let base = Base::of(base, Path::new(&report.base), report.base_bytes);
    let base = base.watched(watch_again(kept, change)?);
    let StoreState::Ram {
        over: Some(over), ..
    } = &kept.handover.store
    else {
        return Ok(base);
    };
    let context = "taking over the session below";
    let files: std::io::Result<Vec<File>> =
        kept.store.iter().skip(2).map(File::try_clone).collect();
    let files = CowFiles::kept(files.context(context)?, &over.name, Mode::Read);
    let mut files = files.context(context)?;
    let mut found = recover(&mut files, Shape::PRODUCT, None)
        .map_err(|trouble| anyhow::anyhow!("{context}: {trouble}"))?;
    found.look_at(over.layer);
    Ok(base.under(Over::new(found, files)))
}

/// The store that another worker served.
pub(super) fn store_again(kept: &Kept, base: &Arc<Base>) -> anyhow::Result<Serving> {
    let report = &kept.handover.report;
    let files: std::io::Result<Vec<File>> = kept.store.iter().map(File::try_clone).collect();
    let mut files = files.context("taking over the cowfile")?;
    let missing = || anyhow::anyhow!("taking over the cowfile: a descriptor is missing");
    match &kept.handover.store {
        StoreState::Ram {
            capacity_slots,
            reserve_slots,
            ..
        } => {
            let limits = Limits {
                capacity: *capacity_slots,
                reserve: *reserve_slots,
            };
            files.truncate(2);
            let files = <[File; 2]>::try_from(files).map_err(|_| missing())?;
            volatile::resume(files, limits, base, report.size_bytes)
        }
        StoreState::Medium {
            name,
            store,
            chunks,
            fanout_shift,
            staging_chunks,
            layer,
        } => {
            if files.is_empty() {
                return Err(missing());
            }
            let mode = match report.read_only {
                true => Mode::Read,
                false => Mode::Write,
            };
            let left = persistent::Left {
                memory: files.remove(0),
                files: CowFiles::kept(files, name, mode).context("taking over the cowfile")?,
                store: *store,
                chunks: *chunks,
                fanout_shift: *fanout_shift,
                staging_chunks: *staging_chunks,
                layer: *layer,
            };
            let durability = report.cow.durability.parse().map_err(anyhow::Error::msg);
            let durability = durability.context("taking over the cowfile")?;
            persistent::resume(left, base, durability)
        }
    }
}
