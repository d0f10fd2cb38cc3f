//! A session in RAM: how large it may be, its cowfile, and the memory of its map.

use std::fs::{File, OpenOptions};
use std::path::Path;

use anyhow::{Context, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::engine::map::{MAX_SLOT, Map};
use crate::engine::units::CHUNK_BYTES;
use crate::engine::volatile::Limits;
use crate::media::mount::{self, Swap};
use crate::media::open::TmpfsSize;
use crate::sys::SharedWords;

/// Where the daemon mounts its tmpfs, in its own view of the mounts.
const STORE: &str = "/run/store";

/// How many bytes a tmpfs of `size` may hold on this machine.
pub(super) fn tmpfs_bytes(size: TmpfsSize) -> anyhow::Result<u64> {
    let bytes = match size {
        TmpfsSize::Bytes(bytes) => bytes,
        TmpfsSize::Percent(percent) => {
            let memory =
                std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
            let total = memory
                .lines()
                .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
            let kibibytes: u64 = total
                .and_then(|total| total.parse().ok())
                .context("finding MemTotal in /proc/meminfo")?;
            kibibytes * 1024 / 100 * u64::from(percent)
        }
    };
    const LEAST: u64 = 1 << 20;
    if bytes < LEAST {
        bail!("sizing the cowfile: {bytes} bytes of tmpfs are too few; give it 1M or more");
    }
    Ok(bytes / CHUNK_BYTES * CHUNK_BYTES)
}

/// Slots of the cowfile, and those kept for a file system's own needs: a journal write that fails
/// would make a root file system read-only.
pub(super) fn limits(capacity_bytes: u64) -> Limits {
    let reserve_bytes = (16 << 20).max(capacity_bytes / 50).min(capacity_bytes / 8);
    let slots = |bytes: u64| u32::try_from(bytes / CHUNK_BYTES).unwrap_or(MAX_SLOT);
    Limits {
        capacity: slots(capacity_bytes),
        reserve: slots(reserve_bytes),
    }
}

/// A file in a tmpfs that only this process sees.
pub(super) fn tmpfs_cowfile(capacity_bytes: u64) -> anyhow::Result<(File, Swap)> {
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
pub(super) fn map_memory(chunks: u64) -> anyhow::Result<SharedWords> {
    let words = Map::<SharedWords>::words_needed(chunks);
    let memory =
        memfd_create(c"cowroot-map", MFdFlags::MFD_CLOEXEC).context("making memory for the map")?;
    let memory = File::from(memory);
    memory
        .set_len(words * 4)
        .context("sizing the map's memory")?;
    SharedWords::map(&memory, usize::try_from(words)?).context("mapping the map's memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_but_never_most_of_the_store() {
        for (capacity_mib, reserve_kib) in
            [(8, 1024), (64, 8 << 10), (256, 16 << 10), (2048, 40 << 10)]
        {
            let limits = limits(capacity_mib << 20);
            assert_eq!(limits.capacity, u32::try_from(capacity_mib * 256).unwrap());
            assert_eq!(
                u64::from(limits.reserve) / 256,
                reserve_kib >> 10,
                "{capacity_mib} MiB"
            );
        }
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
    }
}
