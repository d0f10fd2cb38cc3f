//! Base and cowfile of a device: opened by its first worker, taken over by those that come after it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use anyhow::Context;

use super::handover::{KeptPlace, Media, StoreState};
use super::kept::Kept;
use super::report::reserve_slots;
use super::store::{Serving, Store};
use super::{Options, confine, login, persistent, protect, volatile};
use crate::disk::base::{self, Base};
use crate::disk::cowfile::{CowFiles, Mode};
use crate::disk::over::Over;
use crate::disk::spots;
use crate::disk::stamp::Stamp;
use crate::disk::watch::Watch;
use crate::engine::cowfile::recover::recover;
use crate::engine::format::Shape;
use crate::engine::units::Limits;
use crate::media::cowfile::identify;
use crate::media::mount;
use crate::media::namespace::{self, Left};
use crate::media::open::CowStore;
use crate::media::place::Place;
use crate::media::session::Wish;
use crate::sys;

/// What a first worker has opened.
pub(super) struct Opening {
    pub(super) base: Arc<Base>,
    pub(super) store: Store,
    pub(super) in_initramfs: bool,
    /// There the machine's /run, where logins to its root will look.
    pub(super) run: Option<File>,
    pub(super) media: Media,
}

/// Open base and cowfile, make this process hard to kill, and leave the machine's mounts.
pub(super) fn open_all(options: &Options, change: &'static AtomicU32) -> anyhow::Result<Opening> {
    let wishes = (options.size_bytes, &options.session);
    let base = Base::open(&options.base)?;
    if namespace::is_ram(Path::new("/")) {
        // A cowfile too is opened through our own copy of its mount.
        mount::private_namespace()?;
    }
    match &options.cow {
        CowStore::Tmpfs(size) => {
            let media = media(options, &base, None)?;
            let (base, left) = leave_with_base(base, options, change)?;
            let base = Arc::new(base);
            let device_bytes = base::device_size_bytes(base.size_bytes(), options.size_bytes)?;
            become_server();
            let store = volatile::store(*size, &base, device_bytes, options.read_only)?;
            Ok(left.with(base, store, media))
        }
        CowStore::File(path) if options.session == Wish::Throwaway => {
            let opened = persistent::open(path, &base, true, wishes)?;
            let (base, left) = leave_with_base(base, options, change)?;
            become_server();
            let (base, store) = volatile::throwaway(path, opened, base)?;
            // What is read through the cowfile below is not opened again.
            Ok(left.with(base, store, Media::default()))
        }
        CowStore::File(path) => {
            let opened = persistent::open(path, &base, options.read_only, wishes)?;
            let first = opened.files.files().first();
            let media = media(options, &base, first.map(|file| (path.as_path(), file)))?;
            let (base, left) = leave_with_base(base, options, change)?;
            let base = Arc::new(base);
            become_server();
            let store = persistent::store(path, opened, &base, options.durability)?;
            Ok(left.with(base, store, media))
        }
    }
}

/// Where they lie. What is not known again when it was pulled out is not waited for.
fn media(options: &Options, base: &Base, cow: Option<(&Path, &File)>) -> anyhow::Result<Media> {
    if options.lost_s == 0 {
        return Ok(Media::default());
    }
    let of_base = Place::of(base.path(), base.file());
    let mut media = Media {
        wait_s: options.lost_s,
        base: of_base.as_ref().map(KeptPlace::from),
        ..Media::default()
    };
    match (cow, of_base) {
        (Some((path, file)), _) => {
            let place = Place::of(path, file);
            if let Some(place) = place.as_ref().filter(|place| !place.is_device()) {
                media.spots = spots(file);
                if media.spots.is_empty() && !place.is_read_unchanged() {
                    // Nor for a base on it: both are away at once.
                    media.base = media.base.filter(|base| base.device != place.device);
                    return Ok(media);
                }
            }
            media.cow = place.as_ref().map(KeptPlace::from);
        }
        // No cowfile says which base it wants. A disc is never written, and tells by its date which one it is; to look
        // for more on it takes seconds.
        (None, Some(place)) if !place.is_dated_disc() => {
            let seed = sys::random().context("asking the kernel for a random number")?;
            match identify(base, seed) {
                Ok(identity) => media.identity = Some((identity, seed)),
                Err(error) => {
                    log::warn!(
                        "{error:#}; so nobody could tell it again, and it is not waited for if it is pulled out"
                    );
                    media.base = None;
                }
            }
        }
        (None, _) => {}
    }
    Ok(media)
}

/// Where on its medium a cowfile's superblocks are; nothing where its file system cannot tell.
fn spots(file: &File) -> Vec<[u64; 3]> {
    let extents = spots::of(file).unwrap_or_default().into_iter();
    let extents = extents.map(|extent| [extent.offset, extent.place, extent.bytes]);
    extents.collect()
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
    fn with(self, base: Arc<Base>, store: Store, media: Media) -> Opening {
        let Self { in_initramfs, run } = self;
        Opening {
            base,
            store,
            in_initramfs,
            run,
            media,
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
    if !namespace::is_ram(Path::new("/")) {
        mount::private_namespace()?;
    }
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
    let base = kept.base.as_ref().map(File::try_clone).transpose();
    let base = base.ok().flatten().context("taking over the base")?;
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
            let files: std::io::Result<Vec<File>> =
                kept.store.iter().take(2).map(File::try_clone).collect();
            let files = <[File; 2]>::try_from(files.context(TAKING)?);
            let missing = |_| anyhow::anyhow!("{TAKING}: a descriptor is missing");
            volatile::resume(files.map_err(missing)?, limits, base, report.size_bytes)
        }
        StoreState::Medium { .. } => {
            let (left, files) = (left(kept)?, cow_files(kept)?);
            let durability = report.cow.durability.parse().map_err(anyhow::Error::msg);
            persistent::resume(&left, files, base, durability.context(TAKING)?)
        }
    }
}

const TAKING: &str = "taking over the cowfile";

/// The memory of a persistent store.
pub(super) fn left(kept: &Kept) -> anyhow::Result<persistent::Left> {
    match (&kept.handover.store, kept.store.first()) {
        (
            StoreState::Medium {
                store,
                chunks,
                fanout_shift,
                staging_chunks,
                layer,
                ..
            },
            Some(memory),
        ) => Ok(persistent::Left {
            memory: memory.try_clone().context(TAKING)?,
            store: *store,
            chunks: *chunks,
            fanout_shift: *fanout_shift,
            staging_chunks: *staging_chunks,
            metadata_reserve: reserve_slots(&kept.handover.report.cow),
            layer: *layer,
        }),
        _ => anyhow::bail!("{TAKING}: a descriptor is missing"),
    }
}

/// Its files, unless their medium is gone.
pub(super) fn cow_files(kept: &Kept) -> anyhow::Result<CowFiles> {
    let files = kept.store.iter().skip(1).map(File::try_clone);
    let files: std::io::Result<Vec<File>> = files.collect();
    let name = match &kept.handover.store {
        StoreState::Medium { name, .. } => name.as_slice(),
        StoreState::Ram { .. } => &[],
    };
    CowFiles::kept(files.context(TAKING)?, name, mode(kept)).context(TAKING)
}

/// What the cowfile is opened for.
pub(super) fn mode(kept: &Kept) -> Mode {
    match kept.handover.report.read_only {
        true => Mode::Read,
        false => Mode::Write,
    }
}
