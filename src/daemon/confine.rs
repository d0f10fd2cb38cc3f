//! What the serving process gives away: it reads what others have written, on media that anybody may have made.
//!
//! docs/design.md says what stays, and why.

use std::collections::BTreeMap;

use anyhow::Context;
use caps::{CapSet, Capability, CapsHashSet};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Capabilities that stay. ublk's driver wants the first for each of its commands (also for the last ones, at a
/// detach), siblings may be in somebody else's folder, and what is mapped later must be locked, too.
const KEPT: [Capability; 3] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_IPC_LOCK,
];

/// Give away what this thread, and those it makes from now on, may do beyond [`KEPT`]; for good.
///
/// # Errors
/// The kernel's.
pub(super) fn drop_capabilities() -> anyhow::Result<()> {
    let kept = CapsHashSet::from(KEPT);
    // Of these first: to give them away is itself something that one gives away.
    for capability in caps::all() {
        if !kept.contains(&capability) {
            // One that the kernel does not know is not there.
            let _ = caps::drop(None, CapSet::Bounding, capability);
        }
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept)?;
    }
    caps::clear(None, CapSet::Inheritable)?;
    Ok(())
}

/// Let no thread of this process call the kernel for anything but what serving takes: no program is started, no other
/// process looked into, nothing mounted, no module loaded. Anything else fails with `EPERM`: a root disk that does without
/// something is better than none.
///
/// # Errors
/// The kernel's; or there is no filter for this machine.
pub(super) fn filter_system_calls() -> anyhow::Result<()> {
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    let calls: BTreeMap<i64, Vec<_>> = CALLS.iter().map(|&call| (call, Vec::new())).collect();
    let filter = SeccompFilter::new(calls, refuse, SeccompAction::Allow, arch)?;
    let program: BpfProgram = filter.try_into().context("making the filter")?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

/// What serving, answering, committing, growing and ending take.
const CALLS: &[i64] = &[
    // The ring.
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    // Base, cowfile, /proc, /dev/kmsg.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_unlinkat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_ioctl,
    // Who asks, who waits, who is told.
    libc::SYS_ppoll,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_listen,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_pidfd_open,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // Memory, threads, time, ends.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_clone3,
    libc::SYS_clone,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_geteuid,
    libc::SYS_uname,
    libc::SYS_prctl,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
];
