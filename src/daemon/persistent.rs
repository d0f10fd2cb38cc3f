//! A session in a cowfile: how it is run, and the memory for what is not durable yet.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::handover::StoreState;
use super::kept::KeptStore;
use super::protocol::CowReport;
use super::store::{Serving, Store, memory_bytes, reserve_bytes};
use crate::disk::base::Base;
use crate::disk::cowfile::{CowFiles, Mode};
use crate::disk::growth::Growth;
use crate::disk::{self, Cow, Disk};
use crate::engine::command::Outbox;
use crate::engine::cowfile::recover::{Medium, Recovered, newest, recover};
use crate::engine::cowfile::staging::{Durable, Staging};
use crate::engine::cowfile::trouble::Trouble;
use crate::engine::cowfile::{self, Cowfile, Settings, WhenFull};
use crate::engine::format::Shape;
use crate::engine::format::check::Access;
use crate::engine::format::description::Description;
use crate::engine::format::superblock::{DESCRIPTION_VERSION, Superblock};
use crate::engine::units::{CHUNK_BYTES, Limits};
use crate::media::cowfile::Opened;
use crate::media::open::Durability;
use crate::media::session::{self, Wish};
use crate::media::{self, journal, text};
use crate::sys::{self, SharedBytes, SharedWords};
use crate::ublk::{self, asks::Asks, served::Served};

/// What nobody flushes is durable after so long: as long as ext4 keeps what nobody syncs.
const UNASKED: Duration = Duration::from_secs(5);

/// Memory for what is acknowledged and not durable, in chunks: 64 MiB, less on small machines.
const MOST_STAGED: u64 = 16 << 10;
const LEAST_STAGED: u64 = 1 << 10;
/// Its share of RAM.
const STAGED_SHARE: u64 = 16;

/// Slots that a cowfile grows by where it need not be a whole file: 16 MiB, a second or two of a slow stick.
const GROW_SLOTS: u32 = 4 << 10;

/// Open a cowfile for its base, before the machine's mounts are left.
///
/// # Errors
/// What `media::cowfile::open` says, or that a device of another size was asked for.
pub(super) fn open(
    path: &Path,
    base: &Base,
    read_only: bool,
    (size_bytes, session): (Option<u64>, &Wish),
) -> anyhow::Result<Opened> {
    let reads = read_only || *session == Wish::Throwaway;
    let mode = if reads { Mode::Read } else { Mode::Write };
    let opened = media::cowfile::open(path, mode, Some(base))?;
    let made_for = opened.found.superblock.device_bytes;
    if size_bytes.is_some_and(|asked| asked != made_for) {
        bail!(
            "opening cowfile '{}': it was made for a device of {made_for} bytes, another size was asked for; leave \
             --size out",
            path.display()
        );
    }
    let opened = session::choose(path, opened, session)?;
    match mode {
        Mode::Write => media::merge::make_ready(path, opened),
        Mode::Read => Ok(opened),
    }
}

/// Make an opened cowfile ready to be served.
///
/// # Errors
/// What the kernel does not give.
pub(super) fn store(
    path: &Path,
    opened: Opened,
    base: &Arc<Base>,
    durability: Durability,
) -> anyhow::Result<Store> {
    let session = session::active_name(&opened);
    let Opened { files, found, .. } = opened;
    let superblock = &found.superblock;
    let settings = Settings {
        metadata_reserve: metadata_reserve(superblock, base),
        ..settings(superblock, durability, files.growth())?
    };
    let limits = Limits {
        capacity: superblock.max_slots,
        reserve: settings.metadata_reserve,
    };
    let device_bytes = superblock.device_bytes;
    let memory = staging(&settings, superblock)?;
    let (words, staging) = mapped(&memory, &settings, superblock)?;
    let mut kept = vec![memory];
    kept.extend(files.again().context("keeping the cowfile's files")?);
    let kept = KeptStore {
        state: StoreState::Medium {
            name: files.name(),
            store: superblock.origin.store,
            chunks: superblock.chunks(),
            fanout_shift: superblock.shape.fanout_shift,
            staging_chunks: settings.staging_chunks,
            layer: superblock.active_layer,
            found: [superblock.origin.incarnation, found.epoch],
        },
        files: kept,
    };
    if found.torn {
        log::info!(
            "cowfile '{}': the last commit was cut off, as by a power cut; it is as it was after the one before",
            path.display()
        );
    }
    let medium = disk::Medium::new(files, superblock.origin, staging.source())
        .with_context(|| format!("opening cowfile '{}' for its device", path.display()))?;
    let disk = Disk::new(Arc::clone(base), Cow::Medium(Box::new(medium)));
    let engine = Cowfile::open(found, words, settings);
    Ok(Store {
        serving: serving(engine, settings, staging, disk, durability)?,
        device_bytes,
        limits,
        cow: CowReport {
            store: "cowfile".into(),
            path: Some(path.display().to_string()),
            session: Some(session),
            durability: durability.to_string(),
            reserve_bytes: u64::from(limits.reserve) * CHUNK_BYTES,
            ..CowReport::default()
        },
        warnings: promises(device_bytes, limits).into_iter().collect(),
        kept,
    })
}

/// What another process left of a store: its memory, and which cowfile that is of.
pub(super) struct Left {
    pub(super) memory: File,
    pub(super) store: [u8; 16],
    pub(super) chunks: u64,
    pub(super) fanout_shift: u8,
    pub(super) staging_chunks: u32,
    /// As it was at the start: its base may not be readable now.
    pub(super) metadata_reserve: u32,
    /// What is looked at, where nothing is written.
    pub(super) layer: u8,
}

impl Left {
    /// What is known to be durable.
    ///
    /// # Errors
    /// The staging is not this cowfile's, or cannot be mapped.
    pub(super) fn durable(&self) -> anyhow::Result<Option<Durable>> {
        let context = "looking into what is not durable yet";
        let pool = self.staging_chunks;
        let words = Staging::<SharedWords>::words_needed(pool);
        let words = SharedWords::map(&self.memory, words).context(context)?;
        Staging::open(words, self.store, pool, self.fanout_shift, self.chunks)
            .map(|staging| staging.durable())
            .map_err(|damage| anyhow::anyhow!("{context}: it is damaged ({damage:?})"))
    }
}

/// Whether a cowfile that was opened anew is the one that was served, as it was: `first` is what the first worker
/// found. What is known of it.
///
/// # Errors
/// It is another one, or lacks something that was durable, or somebody else has written to it.
pub(super) fn verify(
    files: &mut CowFiles,
    left: &Left,
    first: [u64; 2],
) -> anyhow::Result<Recovered> {
    let durable = left.durable()?;
    let found = recover(files, Shape::PRODUCT, durable).map_err(on_it)?;
    let [incarnation, epoch] = first;
    require_as_left(&found.superblock, left, durable, incarnation)?;
    match durable.is_some() || found.epoch == epoch {
        true => Ok(found),
        false => bail!("{CHANGED}"),
    }
}

/// The same by its superblocks alone.
///
/// # Errors
/// It is another one, or an older or newer state of it.
pub(super) fn verify_superblock(
    medium: &mut impl Medium,
    left: &Left,
    [incarnation, _]: [u64; 2],
) -> anyhow::Result<()> {
    let durable = left.durable()?;
    let superblock = newest(medium, Shape::PRODUCT, durable).map_err(on_it)?;
    require_as_left(&superblock, left, durable, incarnation)
}

fn on_it(trouble: Trouble) -> anyhow::Error {
    anyhow::anyhow!("the cowfile on it: {trouble}")
}

const CHANGED: &str = "the cowfile on it is not as it was: somebody else has written to it, or its medium has forgotten";

fn require_as_left(
    superblock: &Superblock,
    left: &Left,
    durable: Option<Durable>,
    incarnation: u64,
) -> anyhow::Result<()> {
    if superblock.origin.store != left.store {
        bail!("the cowfile on it is another one");
    }
    let is_as_it_was = match durable {
        // Each superblock that this device may have begun since goes to the other copy.
        Some(durable) => superblock.generation == durable.generation,
        None => superblock.origin.incarnation == incarnation,
    };
    match is_as_it_was {
        true => Ok(()),
        false => bail!("{CHANGED}"),
    }
}

/// Go on with what another process left: what it had acknowledged is in the staging, if not in the cowfile.
///
/// # Errors
/// The cowfile does not open, the staging is not its own, or the kernel does not give what it takes.
pub(super) fn resume(
    left: &Left,
    mut files: CowFiles,
    base: &Arc<Base>,
    durability: Durability,
) -> anyhow::Result<Serving> {
    let context = "going on with the cowfile";
    let damaged =
        |damage| anyhow::anyhow!("{context}: what was not durable is damaged ({damage:?})");
    let durable = left.durable()?;
    let mut found = recover(&mut files, Shape::PRODUCT, durable)
        .map_err(|trouble| anyhow::anyhow!("{context}: {trouble}"))?;
    if files.mode() == Mode::Read {
        found.look_at(left.layer);
        if found.access == Access::ReadWrite {
            found.access = Access::ReadOnly(Vec::new());
        }
    }
    let superblock = &found.superblock;
    let settings = Settings {
        staging_chunks: left.staging_chunks,
        metadata_reserve: left.metadata_reserve,
        ..settings(superblock, durability, files.growth())?
    };
    let (words, staging) = mapped(&left.memory, &settings, superblock)?;
    let medium = disk::Medium::new(files, superblock.origin, staging.source()).context(context)?;
    let disk = Disk::new(Arc::clone(base), Cow::Medium(Box::new(medium)));
    let engine = Cowfile::resume(found, words, settings).map_err(damaged)?;
    serving(engine, settings, staging, disk, durability)
}

fn serving(
    engine: Cowfile<SharedWords>,
    settings: Settings,
    staging: SharedBytes,
    disk: std::io::Result<Disk>,
    durability: Durability,
) -> anyhow::Result<Serving> {
    let disk = disk.context("starting the disk's workers")?;
    let superblock = engine.superblock();
    let about = Description::decode(DESCRIPTION_VERSION, &superblock.description);
    let session = about.map(|about| session::name_of(&about, superblock.active_layer));
    let asks = Asks::new(disk.waker(), session.ok());
    Ok(Serving::Medium(Box::new(Served {
        engine,
        first: Outbox::default(),
        scratch_chunks: cowfile::scratch_chunks(settings.depth),
        staging: Some(staging),
        disk,
        asks,
        commit_after: match durability {
            Durability::Flush => Some(UNASKED),
            Durability::Interval(seconds) => Some(Duration::from_secs(seconds.into())),
            Durability::Shutdown => None,
        },
    })))
}

/// Chunks kept for what a file system writes when it is full, its journal among it.
fn metadata_reserve(superblock: &Superblock, base: &Base) -> u32 {
    let journal_bytes = journal::journal_bytes(base.file()).unwrap_or_default();
    let capacity_bytes = u64::from(superblock.max_slots) * CHUNK_BYTES;
    let reserve_bytes = reserve_bytes(capacity_bytes, journal_bytes).min(capacity_bytes / 4);
    u32::try_from(reserve_bytes / CHUNK_BYTES).unwrap_or(u32::MAX)
}

fn settings(
    superblock: &Superblock,
    durability: Durability,
    growth: Growth,
) -> anyhow::Result<Settings> {
    let staged = memory_bytes("MemTotal:")? / CHUNK_BYTES / STAGED_SHARE;
    let chunks = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    Ok(Settings {
        depth: usize::from(ublk::DEPTH),
        staging_chunks: chunks(staged.clamp(LEAST_STAGED, MOST_STAGED)),
        page_buffers: 64,
        durability: match durability {
            Durability::Flush => cowfile::Durability::Flush,
            Durability::Interval(_) | Durability::Shutdown => cowfile::Durability::Driver,
        },
        when_full: WhenFull::Fail,
        // Twice as many make the longest journal that an open has to follow: 1.5 s of the defined disk.
        journal_pages: 256,
        journal_chunks: 32 << 10,
        cached_pages: 2048,
        grow_slots: match growth {
            Growth::WholeFiles => superblock.file_slots,
            Growth::InPlace | Growth::Never => GROW_SLOTS,
        },
        metadata_reserve: 0,
        random: u64::from_le_bytes(sys::random().context("asking the kernel for a random number")?),
    })
}

/// Memory for the staging: its records, and the chunks they speak of.
fn staging(settings: &Settings, superblock: &Superblock) -> anyhow::Result<File> {
    let make = || -> std::io::Result<_> {
        let memory = File::from(memfd_create(c"cowroot-staging", MFdFlags::MFD_CLOEXEC)?);
        let bytes = settings.staging_bytes(superblock) as u64;
        memory.set_len(words_bytes(settings) + bytes)?;
        Ok(memory)
    };
    make().context("making memory for what is not durable yet")
}

/// The records, and the chunks, of such memory.
fn mapped(
    memory: &File,
    settings: &Settings,
    superblock: &Superblock,
) -> anyhow::Result<(SharedWords, SharedBytes)> {
    let words = Staging::<SharedWords>::words_needed(settings.staging_chunks);
    let bytes = settings.staging_bytes(superblock);
    let map = || -> std::io::Result<_> {
        let words = SharedWords::map(memory, words)?;
        Ok((
            words,
            SharedBytes::map(memory, words_bytes(settings), bytes)?,
        ))
    };
    map().context("mapping the memory for what is not durable yet")
}

/// Bytes of the records, before the chunks begin.
fn words_bytes(settings: &Settings) -> u64 {
    let words = Staging::<SharedWords>::words_needed(settings.staging_chunks) as u64;
    (words * 4).next_multiple_of(CHUNK_BYTES)
}

/// A warning if the device promises more than its cowfile can hold.
fn promises(device_bytes: u64, limits: Limits) -> Option<String> {
    let holds_bytes = u64::from(limits.for_data()) * CHUNK_BYTES;
    (holds_bytes < device_bytes).then(|| {
        format!(
            "the device has {}, its cowfile holds {} of changes: df promises more than can be written",
            text::size(device_bytes),
            text::size(holds_bytes)
        )
    })
}
