//! Mounts that have no place: seen only through their descriptor, and gone with the last that is open there
//! (fsopen(2), Linux 5.2).

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Of <linux/mount.h>.
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

/// What may not be done through such a mount, as bits of MOUNT_ATTR_*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// No writes.
    pub const RDONLY: Self = Self(0x1);
    /// No set-user-id, no devices, no programs, and no times of reads.
    pub const PLAIN: Self = Self(0x2 | 0x4 | 0x8 | 0x10);
}

/// Mount `source` as `kind`, at no place. Options as mount(8) takes them, with commas; `ro` is one of them.
///
/// # Errors
/// What fsopen, fsconfig or fsmount says; `EINVAL` for an option that the file system's driver does not know.
pub fn mount_detached(
    kind: &str,
    source: &CStr,
    options: &str,
    attributes: Attributes,
) -> io::Result<OwnedFd> {
    let kind = CString::new(kind)?;
    // SAFETY: the name ends in a zero; the call takes no other memory.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
    let context = owned(context)?;
    set(&context, FSCONFIG_SET_STRING, Some(c"source"), Some(source))?;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some((name, value)) => {
                let (name, value) = (CString::new(name)?, CString::new(value)?);
                set(&context, FSCONFIG_SET_STRING, Some(&name), Some(&value))?;
            }
            None => set(
                &context,
                FSCONFIG_SET_FLAG,
                Some(&CString::new(option)?),
                None,
            )?,
        }
    }
    set(&context, FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: the call takes three integers and touches no memory of ours.
    let mounted = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes.0,
        )
    };
    owned(mounted)
}

/// Give a mount that has no place one: `target`.
///
/// # Errors
/// What move_mount says.
pub fn move_mount(mount: &OwnedFd, target: &CStr) -> io::Result<()> {
    // SAFETY: the descriptor is open, and both texts end in a zero; the call writes no memory of ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(
    context: &OwnedFd,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the descriptor is open; both texts end in a zero and live through the call, or are absent.
    let result = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            pointer(key),
            pointer(value),
            0,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The descriptor that a call has made.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just opened it, and nobody else knows of it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
