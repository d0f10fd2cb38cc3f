//! The kernel's calls that no crate wraps: the one place with `unsafe`.
//!
//! Every function here is safe to call; each `unsafe` block says why. Nothing here logs or decides.
#![allow(
    unsafe_code,
    reason = "this module is the fence around every unsafe block of cowroot"
)]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

mod extents;
mod memory;
mod mount;
mod process;

pub use extents::{Extent, extents};
pub use memory::{SharedBytes, SharedSource, SharedWords};
pub use mount::{Attributes, mount_detached, move_mount};
pub use process::{Forked, fork, receive_with_fds, send_with_fds, shared};

/// Seconds since 1970, by the machine's clock, which in an initramfs may be anything.
#[must_use]
pub fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

mod ioctls {
    //! Request numbers of <linux/fs.h>, <linux/loop.h> and <linux/cdrom.h>.
    nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), libc::c_int);
    nix::ioctl_write_ptr_bad!(blkroset, nix::request_code_none!(0x12, 93), libc::c_int);
    // _IOR(0x12, 114, size_t), yet the kernel writes 64 bits whatever size_t is.
    nix::ioctl_read_bad!(
        blkgetsize64,
        nix::request_code_read!(0x12, 114, size_of::<usize>()),
        u64
    );
    nix::ioctl_read_bad!(blksszget, nix::request_code_none!(0x12, 104), libc::c_int);
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, super::LoopConfig);
    nix::ioctl_write_int_bad!(cdrom_drive_status, 0x5326);
    // _IOR('f', 1, long) and _IOW('f', 2, long), yet the kernel reads and writes an int.
    nix::ioctl_read_bad!(
        fs_ioc_getflags,
        nix::request_code_read!(b'f', 1, size_of::<libc::c_long>()),
        libc::c_int
    );
    nix::ioctl_write_ptr_bad!(
        fs_ioc_setflags,
        nix::request_code_write!(b'f', 2, size_of::<libc::c_long>()),
        libc::c_int
    );
    // _IOW(0x94, 9, int).
    nix::ioctl_write_int_bad!(
        ficlone,
        nix::request_code_write!(0x94, 9, size_of::<libc::c_int>())
    );
}

/// `struct loop_info64` of <linux/loop.h>.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of <linux/loop.h>.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// Runs before `main`, even before Rust's runtime: as PID 1 of an initramfs, make sure of /dev/null.
///
/// Where the kernel has no console it starts PID 1 with descriptors 0 to 2 closed. The runtime then
/// opens /dev/null in their place and aborts if there is none, and a bare initramfs has none yet.
extern "C" fn before_main() {
    // SAFETY: plain system calls on constant strings; nothing of Rust's runtime is used.
    unsafe {
        if libc::getpid() == 1 {
            libc::mkdir(c"/dev".as_ptr(), 0o755);
            libc::mknod(
                c"/dev/null".as_ptr(),
                libc::S_IFCHR | 0o666,
                libc::makedev(1, 3),
            );
        }
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

/// Size in bytes of the block device behind `device` (BLKGETSIZE64).
pub fn block_device_size_bytes(device: &File) -> io::Result<u64> {
    let mut size_bytes = 0u64;
    // SAFETY: the descriptor is open and the kernel writes one u64 to a live local.
    unsafe { ioctls::blkgetsize64(device.as_raw_fd(), &raw mut size_bytes) }?;
    Ok(size_bytes)
}

/// Logical sector size in bytes of the block device behind `device` (BLKSSZGET).
pub fn block_device_sector_bytes(device: &File) -> io::Result<u32> {
    let mut sector_bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open and the kernel writes one int to a live local.
    unsafe { ioctls::blksszget(device.as_raw_fd(), &raw mut sector_bytes) }?;
    u32::try_from(sector_bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Refuse every write to the block device behind `device` from now on, or no longer (BLKROSET).
///
/// Needed before a read-only mount: ext4, XFS and btrfs write their journal back even then.
pub fn set_block_device_read_only(device: &File, is_read_only: bool) -> io::Result<()> {
    let value = libc::c_int::from(is_read_only);
    // SAFETY: the descriptor is open and the kernel reads one int from a live local.
    unsafe { ioctls::blkroset(device.as_raw_fd(), &raw const value) }?;
    Ok(())
}

/// A descriptor of the process `pid` that reads as ready once the process has ended (pidfd_open(2), Linux 5.3).
///
/// # Errors
/// `ESRCH` if there is none, `EINVAL` for 0: a process of another PID namespace.
pub fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    let flags: libc::c_uint = 0;
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just opened it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the kernel refuses every write to the block device behind `device` (BLKROGET).
pub fn is_block_device_read_only(device: &File) -> io::Result<bool> {
    let mut is_read_only: libc::c_int = 0;
    // SAFETY: the descriptor is open and the kernel writes one int to a live local.
    unsafe { ioctls::blkroget(device.as_raw_fd(), &raw mut is_read_only) }?;
    Ok(is_read_only != 0)
}

/// Whether a disc that can be read is in the drive `device`.
///
/// # Errors
/// `ENOTTY` if it is no CD drive.
pub fn is_disc_ready(device: &File) -> io::Result<bool> {
    const CDS_NO_INFO: libc::c_int = 0;
    const CDS_DISC_OK: libc::c_int = 4;
    // A drive that cannot tell is read, to find out.
    Ok(matches!(drive_status(device)?, CDS_NO_INFO | CDS_DISC_OK))
}

/// Whether the drive `device` says that no disc is in it. One that is not ready may be reading a bad one.
///
/// # Errors
/// `ENOTTY` if it is no CD drive.
pub fn is_disc_out(device: &File) -> io::Result<bool> {
    const CDS_NO_DISC: libc::c_int = 1;
    const CDS_TRAY_OPEN: libc::c_int = 2;
    Ok(matches!(drive_status(device)?, CDS_NO_DISC | CDS_TRAY_OPEN))
}

/// What <linux/cdrom.h> calls CDROM_DRIVE_STATUS.
fn drive_status(device: &File) -> io::Result<libc::c_int> {
    const CDSL_CURRENT: libc::c_int = libc::c_int::MAX;
    // SAFETY: the descriptor is open; the call takes one integer and touches no memory of ours.
    Ok(unsafe { ioctls::cdrom_drive_status(device.as_raw_fd(), CDSL_CURRENT) }?)
}

/// Attach `backing` to the loop device `device` (an open /dev/loopN), read-only.
///
/// The kernel lets go of it when its last user closes it (LO_FLAGS_AUTOCLEAR).
pub fn loop_configure_read_only(device: &File, backing: &File) -> io::Result<()> {
    let fd = u32::try_from(backing.as_raw_fd())
        .map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    let config = LoopConfig {
        fd,
        block_size: 0,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: both descriptors are open and the kernel reads one loop_config from a live local.
    unsafe { ioctls::loop_configure(device.as_raw_fd(), &raw const config) }?;
    Ok(())
}

/// Number of a loop device that is free (LOOP_CTL_GET_FREE on an open /dev/loop-control).
pub fn loop_free_number(control: &File) -> io::Result<u32> {
    // SAFETY: the descriptor is open; the call takes no argument.
    let number = unsafe { ioctls::loop_ctl_get_free(control.as_raw_fd()) }?;
    u32::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Have a file system that writes changes elsewhere write those of `file` in place (FS_NOCOW_FL; `chattr +C`). The
/// file must be empty.
pub fn set_no_copy_on_write(file: &File) -> io::Result<()> {
    const FS_NOCOW_FL: libc::c_int = 0x0080_0000;
    let mut flags: libc::c_int = 0;
    // SAFETY: the descriptor is open and the kernel writes one int to a live local.
    unsafe { ioctls::fs_ioc_getflags(file.as_raw_fd(), &raw mut flags) }?;
    flags |= FS_NOCOW_FL;
    // SAFETY: the descriptor is open and the kernel reads one int from a live local.
    unsafe { ioctls::fs_ioc_setflags(file.as_raw_fd(), &raw const flags) }?;
    Ok(())
}

/// Random bytes (getrandom).
///
/// # Errors
/// `ENOSYS` before Linux 3.17.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the buffer is ours and as long as is said. Up to 256 bytes are given at once.
    match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N.min(256), 0) } {
        got if usize::try_from(got) == Ok(N) => Ok(bytes),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Mark this process as one that serves a block device (PR_SET_IO_FLUSHER, Linux 5.6).
///
/// Its memory allocations then never wait for writeback that it would have to do itself.
pub fn set_io_flusher() -> io::Result<()> {
    const PR_SET_IO_FLUSHER: libc::c_int = 57;
    // SAFETY: a prctl that takes integers only and touches no memory of ours.
    match unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Memory that the kernel keeps from everybody else, itself included (memfd_secret, Linux 5.14). None is
/// taken yet; while the descriptor lives the machine does not hibernate.
///
/// # Errors
/// `ENOSYS` if the kernel has none, or `secretmem.enable=0`.
pub fn secret_memory() -> io::Result<OwnedFd> {
    // SAFETY: the call takes one integer and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made it, so nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Read from `file` at `offset` only what needs no waiting (preadv2 with RWF_NOWAIT).
///
/// # Errors
/// `EAGAIN` if the first byte is not in memory; `EOPNOTSUPP` if the file system cannot tell.
pub fn read_at_nowait(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let offset =
        libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: the one vector describes `buffer`, which we hold exclusively for the call.
    let read = unsafe {
        libc::preadv2(
            file.as_raw_fd(),
            &raw const vector,
            1,
            offset,
            libc::RWF_NOWAIT,
        )
    };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// What a file's server says of it now, whatever is known of it here; or, if it is not asked, what is known here: of
/// `name` in `folder`, or of `folder` itself for an empty name (statx with AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC).
///
/// # Errors
/// What statx says.
pub fn stat(folder: BorrowedFd<'_>, name: &CStr, is_asked: bool) -> io::Result<libc::statx> {
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let ask = match is_asked {
        true => libc::AT_STATX_FORCE_SYNC,
        false => libc::AT_STATX_DONT_SYNC,
    };
    let flags = libc::AT_EMPTY_PATH | ask;
    // SAFETY: the descriptor is open, the name ends in a zero, and the kernel writes one statx to a live local.
    let result = unsafe {
        libc::statx(
            folder.as_raw_fd(),
            name.as_ptr(),
            flags,
            libc::STATX_BASIC_STATS,
            found.as_mut_ptr(),
        )
    };
    match result {
        // SAFETY: it was zeros before, and any bytes are integers.
        0 => Ok(unsafe { found.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Let no program that this process executes inherit a descriptor but 0, 1 and 2, unless its flag is
/// cleared after this (close_range with CLOSE_RANGE_CLOEXEC, Linux 5.11).
pub fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: nothing is closed now, a flag is set on descriptors; no memory is touched.
    match unsafe {
        libc::close_range(
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC.cast_signed(),
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Take over a descriptor that this process inherited, e.g. one named on its command line.
///
/// # Errors
/// `EBADF` if nothing is open under that number.
pub fn inherited_fd(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: only borrowed for the check that something is open there.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_GETFD)?;
    // SAFETY: it is open, was inherited across exec, and so no Rust object of this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Let `to` have all of `from`'s blocks, to be written elsewhere when one of both changes (FICLONE).
///
/// # Errors
/// `EOPNOTSUPP`, `EXDEV` or `EINVAL` where the file system cannot.
pub fn share_blocks(from: &File, to: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open; the call takes two integers and touches no memory of ours.
    unsafe { ioctls::ficlone(to.as_raw_fd(), from.as_raw_fd()) }?;
    Ok(())
}

/// Whether somebody else has a file open that is open here for writing, as far as its file system can tell: a lease
/// is only given where nobody has (fcntl(2)).
#[must_use]
pub fn is_open_elsewhere(file: &File) -> bool {
    let lease = |kind: libc::c_int| {
        // SAFETY: the descriptor is open; the call takes two integers and touches no memory of ours.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    let given = lease(libc::F_WRLCK);
    if given.is_ok() {
        // Nobody waits for it yet; without a lease there is none to give back.
        let _ = lease(libc::F_UNLCK);
    }
    given.is_err_and(|error| error.raw_os_error() == Some(libc::EAGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inherited_descriptor_that_is_not_open_is_refused() {
        assert_eq!(
            inherited_fd(-1).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        assert_eq!(
            inherited_fd(9999).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
    }
}
