//! A session in RAM: how large it may be, its cowfile, and the memory of its map.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::handover::{OverState, StoreState};
use super::kept::KeptStore;
use super::protocol::CowReport;
use super::store::{Serving, Store, memory_bytes, reserve_bytes};
use crate::disk::base::Base;
use crate::disk::over::Over;
use crate::disk::{Cow, Disk, Ram};
use crate::engine::command::Outbox;
use crate::engine::map::{MAX_SLOT, Map};
use crate::engine::plan::Geometry;
use crate::engine::stack::{self, Stack};
use crate::engine::units::{CHUNK_BYTES, Limits};
use crate::media::cowfile::Opened;
use crate::media::journal;
use crate::media::mount::{self, Swap};
use crate::media::open::TmpfsSize;
use crate::media::{session, text};
use crate::sys::SharedWords;
use crate::ublk::{self, asks::Asks, served::Served};

/// How large a session in RAM over a stored one may become.
const THROWAWAY: TmpfsSize = TmpfsSize::Percent(50);

/// Where the daemon mounts its tmpfs, in its own view of the mounts.
const STORE: &str = "/run/store";

/// Make the store for a device of `device_bytes` over a base. The process has its own view of the mounts.
///
/// # Errors
/// The size makes no sense on this machine, or the kernel does not give what it takes.
pub(super) fn store(
    size: TmpfsSize,
    base: &Arc<Base>,
    device_bytes: u64,
    read_only: bool,
) -> anyhow::Result<Store> {
    let capacity_bytes = tmpfs_bytes(size)?;
    let (cowfile, swap) = tmpfs_cowfile(capacity_bytes)?;
    let journal_bytes = journal::journal_bytes(base.file()).unwrap_or_default();
    let limits = limits(capacity_bytes, journal_bytes);
    let geometry = geometry(base, device_bytes);
    let (map, words) = map_memory(geometry.chunks())?;
    let depth = usize::from(ublk::DEPTH);
    let mut warnings = Vec::new();
    if swap == Swap::Possible && !read_only {
        warnings.push("this kernel cannot keep the cowfile from swap (Linux 6.4 can): do not swap to this device".into());
    }
    let too_large = too_large_for_now(capacity_bytes);
    let too_small = too_small_for_journal(capacity_bytes, journal_bytes);
    // What nobody writes to stays empty.
    let sizes = [too_large, too_small].into_iter().flatten();
    for warning in sizes.filter(|_| !read_only) {
        log::warn!("{warning}; another size is cowroot.cow=tmpfs:<size>");
        warnings.push(warning);
    }
    let kept = KeptStore {
        state: StoreState::Ram {
            capacity_slots: limits.capacity,
            reserve_slots: limits.reserve,
            over: None,
        },
        files: vec![cowfile.try_clone().context("keeping the cowfile")?, map],
    };
    let engine = Stack::create(words, geometry, limits, depth);
    Ok(Store {
        serving: serving(engine, Outbox::default(), base, cowfile)?,
        device_bytes,
        limits,
        cow: CowReport {
            store: "tmpfs".into(),
            durability: "none".into(),
            reserve_bytes: u64::from(limits.reserve) * CHUNK_BYTES,
            ..CowReport::default()
        },
        warnings,
        kept,
    })
}

/// The same over a stored session, which is only read.
///
/// # Errors
/// As `store`.
pub(super) fn throwaway(
    path: &Path,
    opened: Opened,
    base: Base,
) -> anyhow::Result<(Arc<Base>, Store)> {
    let session = session::active_name(&opened);
    let Opened { files, found, .. } = opened;
    let (layer, device_bytes) = (found.superblock.active_layer, found.superblock.device_bytes);
    let over = Over::new(found, files);
    let (files, name) = over.again().context("keeping the cowfile's files")?;
    let base = Arc::new(base.under(over));
    let mut store = store(THROWAWAY, &base, device_bytes, false)?;
    store.kept.files.extend(files);
    if let StoreState::Ram { over, .. } = &mut store.kept.state {
        *over = Some(OverState { name, layer });
    }
    store.cow.session = Some(session);
    log::info!(
        "cowfile '{}' stays as it is: what is written goes to RAM, and is gone at power-off",
        path.display()
    );
    Ok((base, store))
}

/// Go on with the store that another process left in a cowfile and its map.
///
/// # Errors
/// They do not fit each other or the device, or the kernel does not give what it takes.
pub(super) fn resume(
    [cowfile, map]: [File; 2],
    limits: Limits,
    base: &Arc<Base>,
    device_bytes: u64,
) -> anyhow::Result<Serving> {
    let context = "going on with the session in RAM";
    let geometry = geometry(base, device_bytes);
    let words = Map::<SharedWords>::words_needed(geometry.chunks());
    let words = SharedWords::map(&map, usize::try_from(words)?).context(context)?;
    let cowfile_bytes = cowfile.metadata().context(context)?.len();
    let depth = usize::from(ublk::DEPTH);
    let (engine, out) = Stack::open(words, geometry, limits, cowfile_bytes, depth)
        .map_err(|damage| anyhow::anyhow!("{context}: its map is damaged ({damage:?})"))?;
    serving(engine, out, base, cowfile)
}

fn geometry(base: &Base, device_bytes: u64) -> Geometry {
    Geometry {
        device_bytes,
        base_bytes: base.size_bytes(),
        chunk_bytes: CHUNK_BYTES,
    }
}

fn serving(
    engine: Stack<SharedWords>,
    first: Outbox,
    base: &Arc<Base>,
    cowfile: File,
) -> anyhow::Result<Serving> {
    let disk = Disk::new(Arc::clone(base), Cow::Ram(Ram::new(cowfile)));
    let disk = disk.context("starting the disk's workers")?;
    Ok(Serving::Ram(Box::new(Served {
        engine,
        first,
        scratch_chunks: stack::scratch_chunks(usize::from(ublk::DEPTH)),
        staging: None,
        asks: Asks::new(disk.waker(), None),
        disk,
        commit_after: None,
    })))
}

/// How many bytes a tmpfs of `size` may hold on this machine.
fn tmpfs_bytes(size: TmpfsSize) -> anyhow::Result<u64> {
    let total_bytes = memory_bytes("MemTotal:")?;
    let bytes = match size {
        TmpfsSize::Bytes(bytes) => bytes,
        TmpfsSize::Percent(percent) => total_bytes / 100 * u64::from(percent),
    };
    if bytes > total_bytes {
        bail!(
            "sizing the cowfile: {} of tmpfs are more than this machine's RAM, {}; take less, e.g. \
             tmpfs:50%",
            text::size(bytes),
            text::size(total_bytes)
        );
    }
    const LEAST: u64 = 1 << 20;
    if bytes < LEAST {
        bail!(
            "sizing the cowfile: {} of tmpfs are too few; give it 1M or more",
            text::size(bytes)
        );
    }
    Ok(bytes / CHUNK_BYTES * CHUNK_BYTES)
}

/// A warning if a cowfile of `capacity_bytes` could take more RAM than is free now: the machine would
/// be out of memory before it is full.
fn too_large_for_now(capacity_bytes: u64) -> Option<String> {
    let free_bytes = memory_bytes("MemAvailable:").ok()?;
    let mebibytes = |bytes: u64| bytes >> 20;
    (capacity_bytes > free_bytes).then(|| {
        format!(
            "the cowfile may take {} MiB, but {} MiB of RAM are free: the machine can run out of memory before it is full",
            mebibytes(capacity_bytes),
            mebibytes(free_bytes)
        )
    })
}

/// Slots of the cowfile, and those kept for a file system's own needs: a journal write that fails
/// would make a root file system read-only. Never more than half is kept.
fn limits(capacity_bytes: u64, journal_bytes: u64) -> Limits {
    let reserve_bytes = reserve_bytes(capacity_bytes, journal_bytes).min(capacity_bytes / 2);
    let slots = |bytes: u64| u32::try_from(bytes / CHUNK_BYTES).unwrap_or(MAX_SLOT);
    Limits {
        capacity: slots(capacity_bytes),
        reserve: slots(reserve_bytes),
    }
}

/// A warning if the journal does not fit what is kept for it, with the size of a cowfile where it does.
fn too_small_for_journal(capacity_bytes: u64, journal_bytes: u64) -> Option<String> {
    let fits = |bytes: u64| reserve_bytes(bytes, journal_bytes) <= bytes / 2;
    if fits(capacity_bytes) {
        return None;
    }
    const LARGEST_MIB: u64 = 1 << 20;
    let enough_mib = (capacity_bytes >> 20..LARGEST_MIB).find(|mib| fits(mib << 20))?;
    Some(format!(
        "the cowfile of {} MiB cannot keep room for the file system's journal of {} MiB: when it is full, the file \
         system can become read-only; {enough_mib} MiB are enough",
        capacity_bytes >> 20,
        journal_bytes >> 20,
    ))
}

/// A file in a tmpfs that only this process sees.
fn tmpfs_cowfile(capacity_bytes: u64) -> anyhow::Result<(File, Swap)> {
    let swap = mount::tmpfs(Path::new(STORE), capacity_bytes)?;
    let path = Path::new(STORE).join("cowfile");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path);
    Ok((
        file.with_context(|| format!("making the cowfile '{}'", path.display()))?,
        swap,
    ))
}

/// Shared memory for the map of a device.
fn map_memory(chunks: u64) -> anyhow::Result<(File, SharedWords)> {
    let words = Map::<SharedWords>::words_needed(chunks);
    let memory =
        memfd_create(c"cowroot-map", MFdFlags::MFD_CLOEXEC).context("making memory for the map")?;
    let memory = File::from(memory);
    memory
        .set_len(words * 4)
        .context("sizing the map's memory")?;
    let words = SharedWords::map(&memory, usize::try_from(words)?);
    Ok((memory, words.context("mapping the map's memory")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_but_never_most_of_the_store() {
        for (capacity_mib, reserve_kib) in
            [(8, 1024), (64, 8 << 10), (256, 16 << 10), (2048, 40 << 10)]
        {
            let limits = limits(capacity_mib << 20, 0);
            assert_eq!(limits.capacity, u32::try_from(capacity_mib * 256).unwrap());
            assert_eq!(
                u64::from(limits.reserve) / 256,
                reserve_kib >> 10,
                "{capacity_mib} MiB"
            );
        }
    }

    #[test]
    fn a_journal_is_kept_room_for_but_never_most_of_the_store() {
        for (capacity_mib, journal_mib, reserve_mib) in [
            (64, 64, 32),
            (1024, 64, 84),
            (1024, 1024, 512),
            (2048, 4, 44),
        ] {
            let limits = limits(capacity_mib << 20, journal_mib << 20);
            assert_eq!(limits.reserve / 256, reserve_mib, "{capacity_mib} MiB");
        }
        for (capacity_mib, journal_mib, enough) in [
            (64, 4, None),
            (160, 64, None),
            (159, 64, Some("160 MiB are enough")),
            (64, 64, Some("160 MiB are enough")),
            (8, 4, Some("11 MiB are enough")),
            (1024, 2048, Some("4267 MiB are enough")),
        ] {
            let told = too_small_for_journal(capacity_mib << 20, journal_mib << 20);
            let same = match (&told, enough) {
                (Some(told), Some(enough)) => told.ends_with(enough),
                (told, enough) => told.is_none() && enough.is_none(),
            };
            assert!(same, "{capacity_mib} MiB, journal {journal_mib}: {told:?}");
        }
        assert_eq!(too_small_for_journal(64 << 20, u64::MAX), None, "no advice");
    }

    #[test]
    fn a_share_of_ram_is_a_number_of_chunks() {
        let half = tmpfs_bytes(TmpfsSize::Percent(50)).unwrap();
        assert!(half > 1 << 20 && half.is_multiple_of(4096));
        assert_eq!(
            tmpfs_bytes(TmpfsSize::Bytes((1 << 20) + 5)).unwrap(),
            1 << 20
        );
        assert!(tmpfs_bytes(TmpfsSize::Bytes(4096)).is_err());
        assert!(
            tmpfs_bytes(TmpfsSize::Bytes(1 << 60)).is_err(),
            "more than there is"
        );
        assert!(too_large_for_now(1 << 60).is_some());
        assert!(too_large_for_now(1 << 20).is_none());
    }
}
