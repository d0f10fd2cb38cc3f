//! A device handed to another binary: the supervisor becomes that one, and makes a worker that goes on.
//!
//! The process stays, and so do its descriptors. What else it knows goes through a file in RAM, and first another
//! process of the new binary says whether it understands that: then nothing has happened yet.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitStatus, waitpid};

use super::handover::Handover;
use super::kept::Kept;
use crate::sys::{self, Forked};

/// Seconds within which a new binary has to say whether it would go on.
const TRIAL_S: u32 = 10;

/// What a new binary says of itself.
#[derive(Debug)]
pub struct TakeOver {
    /// The state, and the descriptors of the device.
    pub fds: Vec<RawFd>,
    /// Whom to answer when the device is served again.
    pub answer: Option<RawFd>,
}

/// A binary to become, and the state that it gets.
pub(super) struct Upgrade {
    binary: OwnedFd,
    state: File,
}

impl Upgrade {
    /// Ask `binary` whether it would go on with the device.
    ///
    /// # Errors
    /// It would not, and why; nothing has changed.
    pub(super) fn prepare(kept: &Kept, change: u32, binary: OwnedFd) -> anyhow::Result<Self> {
        let state = memfd_create(c"cowroot-handover", MFdFlags::MFD_CLOEXEC);
        let mut state = File::from(state.context("making memory for the handover")?);
        let mut handover = kept.handover.clone();
        if let Some(watched) = &mut handover.watched {
            watched.change = change;
        }
        state
            .write_all(&handover.encode()?)
            .context("writing the handover")?;
        let upgrade = Self { binary, state };
        upgrade.try_out(kept)?;
        Ok(upgrade)
    }

    /// Have a process of the new binary look at the state.
    fn try_out(&self, kept: &Kept) -> anyhow::Result<()> {
        let (mut said, says) = std::io::pipe().context("making a pipe to the new binary")?;
        match sys::fork().context("trying the new binary")? {
            Forked::Child => {
                // One that hangs must not keep the supervisor: the alarm stays with what is executed.
                let _ = SigSet::from(Signal::SIGALRM).thread_unblock();
                nix::unistd::alarm::set(TRIAL_S);
                let _ = nix::unistd::dup2_stderr(&says);
                let error = self.exec(kept, None, true);
                eprintln!("{error:#}");
                std::process::exit(1)
            }
            Forked::Parent(child) => {
                drop(says);
                let mut why = String::new();
                let _ = (&mut said).take(4096).read_to_string(&mut why);
                match waitpid(child, None) {
                    Ok(WaitStatus::Exited(_, 0)) => Ok(()),
                    Ok(_) if !why.is_empty() => bail!("the new binary refuses: {}", why.trim_end()),
                    Ok(_) => {
                        bail!("the new binary refuses: is it a cowroot that can take over devices?")
                    }
                    Err(error) => Err(error).context("waiting for the new binary"),
                }
            }
        }
    }

    /// Become the new binary. Comes back only if that fails.
    pub(super) fn become_it(&self, kept: &Kept, answer: &UnixStream) -> anyhow::Error {
        let error = self.exec(kept, Some(answer), false);
        for fd in self.fds(kept).into_iter().chain([answer.as_fd()]) {
            let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        }
        error
    }

    fn fds<'a>(&'a self, kept: &'a Kept) -> Vec<BorrowedFd<'a>> {
        let state = self.state.as_fd();
        std::iter::once(state).chain(kept.fds()).collect()
    }

    fn exec(&self, kept: &Kept, answer: Option<&UnixStream>, is_trial: bool) -> anyhow::Error {
        let context = "starting the new binary";
        let fds = self.fds(kept);
        let mut words = vec!["@cowroot".to_owned(), "take-over".into()];
        for fd in fds.iter().copied().chain(answer.map(AsFd::as_fd)) {
            if let Err(error) = fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())) {
                return anyhow::Error::new(error).context(context);
            }
        }
        let numbers: Vec<String> = fds.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        words.push(numbers.join(","));
        words.extend(answer.map(|answer| format!("--answer={}", answer.as_raw_fd())));
        words.extend(is_trial.then(|| "--try".into()));
        let words: Result<Vec<CString>, _> = words.into_iter().map(CString::new).collect();
        let error = match words {
            Ok(words) => nix::unistd::fexecve(&self.binary, &words, &[] as &[CString]).err(),
            Err(_) => None,
        };
        match error {
            Some(error) => anyhow::Error::new(error).context(context),
            None => anyhow::anyhow!("{context}: its words cannot be written"),
        }
    }
}

impl TakeOver {
    /// What another binary hands over, if this one understands it; and whom to answer.
    ///
    /// # Errors
    /// It is of another version, or not whole.
    pub(super) fn accept(&self) -> anyhow::Result<(Kept, Option<UnixStream>)> {
        let context = "taking over a device";
        let mut fds = Vec::new();
        for &fd in &self.fds {
            fds.push(inherited(fd).context(context)?);
        }
        let answer = self.answer.map(inherited).transpose().context(context)?;
        if fds.is_empty() {
            bail!("{context}: nothing was handed over");
        }
        let mut state = File::from(fds.remove(0));
        let mut bytes = Vec::new();
        state.rewind().context(context)?;
        state.read_to_end(&mut bytes).context(context)?;
        let kept = Kept::of(Handover::decode(&bytes)?, fds)?;
        Ok((kept, answer.map(UnixStream::from)))
    }
}

/// A descriptor that was handed over; no child of this process is to have it.
fn inherited(fd: RawFd) -> anyhow::Result<OwnedFd> {
    let fd = sys::inherited_fd(fd).with_context(|| format!("taking over descriptor {fd}"))?;
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("keeping a descriptor")?;
    Ok(fd)
}
