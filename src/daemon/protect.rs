//! What a process needs to survive as the server of a root disk.

use std::os::fd::OwnedFd;

use anyhow::Context;
use nix::sys::mman::{MlockAllFlags, mlockall};

/// Make this process hard to kill and never wait for itself. `name` is what ps shows.
///
/// What the kernel refuses is told, not fatal: a device that is less safe is better than none, and
/// outside a boot it may serve a disk nobody's life depends on.
pub(super) fn protect(name: &std::ffi::CStr) {
    let steps: [(&str, anyhow::Result<()>); 4] = [
        (
            "naming the process",
            nix::sys::prctl::set_name(name).map_err(Into::into),
        ),
        // Its pages must not have to be read back from the disk it serves. Only what is touched:
        // without ONFAULT a mapped sparse file would be allocated whole.
        ("locking its memory", lock_memory()),
        // Its allocations must not wait for dirty pages that only it can write.
        (
            "making it an I/O flusher",
            crate::sys::set_io_flusher().map_err(Into::into),
        ),
        // The kernel must not choose it when memory runs out: nothing would work after it.
        (
            "hiding it from the OOM killer",
            std::fs::write("/proc/self/oom_score_adj", "-1000").map_err(Into::into),
        ),
    ];
    for (doing, result) in steps {
        if let Err(error) = result.context(doing) {
            log::warn!("{error:#}; the device works, but is less safe when memory runs short");
        }
    }
}

/// Keep the machine from hibernating for as long as the result lives.
///
/// The cowfile would be saved with the rest of the RAM, but the next boot makes a new session and knows
/// nothing of it: hibernating would be a power cut that also spoils the swap area. The kernel refuses
/// while anybody holds secret memory, for that must not reach a disk.
pub(super) fn refuse_hibernation() -> Option<OwnedFd> {
    match crate::sys::secret_memory() {
        Ok(held) => Some(held),
        Err(error) => {
            log::warn!(
                "refusing hibernation: {error}; do not hibernate, this session would be lost (nohibernate refuses it)"
            );
            None
        }
    }
}

fn lock_memory() -> anyhow::Result<()> {
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    Ok(mlockall(
        MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault,
    )?)
}
