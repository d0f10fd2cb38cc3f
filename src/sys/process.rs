//! Processes made of this one, and descriptors handed between them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::{ForkResult, Pid};

/// Who one is after `fork`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The process that forked; its child's number.
    Parent(Pid),
    /// The new one.
    Child,
}

/// Make another process that goes on from here with all that this one has (fork). Only a process with one thread
/// may: of others the child would have the locks and not who opens them.
///
/// # Errors
/// `EBUSY` if this process has other threads, `ENOENT` without /proc; else what fork says.
pub fn fork() -> io::Result<Forked> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: no other thread holds a lock or is within an allocation, for there is none.
    Ok(match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Forked::Parent(child),
        ForkResult::Child => Forked::Child,
    })
}

/// A value that this process shares with those it forks, for as long as any of them lives.
///
/// # Errors
/// `EINVAL` for a value of no size; else what mmap says.
pub fn shared<T: Sync>(value: T) -> io::Result<&'static T> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let length = std::num::NonZeroUsize::new(size_of::<T>()).ok_or_else(invalid)?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping at an address of the kernel's choice; nothing else refers to it.
    let address = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED) }?;
    let place: NonNull<T> = address.cast();
    // SAFETY: the mapping is page-aligned, which is enough for any T, large enough for one, and never given back;
    // `value` moves there before anybody else can see it. That T is Sync lets all of them use it at any time.
    unsafe {
        place.write(value);
        Ok(place.as_ref())
    }
}

/// Send a message with descriptors over a local socket that keeps messages apart (SCM_RIGHTS).
///
/// # Errors
/// What sendmsg says.
pub fn send_with_fds(
    socket: BorrowedFd<'_>,
    message: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let with = if raw.is_empty() { &[][..] } else { &rights };
    let flags = MsgFlags::MSG_NOSIGNAL;
    let parts = [IoSlice::new(message)];
    sendmsg::<()>(socket.as_raw_fd(), &parts, with, flags, None)?;
    Ok(())
}

/// Receive what `send_with_fds` sent, up to `longest` bytes and 16 descriptors. Nothing at all: nobody is there any
/// more.
///
/// # Errors
/// `EMSGSIZE` if it was cut off; else what recvmsg says.
pub fn receive_with_fds(
    socket: BorrowedFd<'_>,
    longest: usize,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut message = vec![0; longest];
    let mut space = nix::cmsg_space!([RawFd; 16]);
    let mut parts = [IoSliceMut::new(&mut message)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut fds = Vec::new();
    for part in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel has just opened them for this process, and nobody else knows of them.
            fds.extend(raw.iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }));
        }
    }
    let cut = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC;
    let (len, is_cut) = (received.bytes, received.flags.intersects(cut));
    if is_cut {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    message.truncate(len);
    Ok((message, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    #[test]
    fn descriptors_arrive_with_their_message() {
        let kind = (AddressFamily::Unix, SockType::SeqPacket);
        let (one, other) = socketpair(kind.0, kind.1, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send_with_fds(one.as_fd(), b"take it", &[writer.as_fd()]).unwrap();
        send_with_fds(one.as_fd(), b"long", &[]).unwrap();
        drop((writer, one));
        let (message, fds) = receive_with_fds(other.as_fd(), 100).unwrap();
        assert_eq!((message.as_slice(), fds.len()), (&b"take it"[..], 1));
        let mut writer = std::fs::File::from(fds.into_iter().next().unwrap());
        writer.write_all(b"!").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "!");
        let cut = receive_with_fds(other.as_fd(), 2).unwrap_err();
        assert_eq!(cut.raw_os_error(), Some(libc::EMSGSIZE));
        assert!(receive_with_fds(other.as_fd(), 9).unwrap().0.is_empty());
    }

    #[test]
    fn a_process_with_other_threads_does_not_fork() {
        // The test runner has some.
        let error = fork().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    }
}
