//! All that a device consists of, as the supervisor holds it between one worker and the next.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::Context;

use super::handover::{Found, Handover, KeptPlace, StoreState};

/// A store as it is handed over.
#[derive(Debug)]
pub(super) struct KeptStore {
    pub(super) state: StoreState,
    pub(super) files: Vec<File>,
}

/// All that a device needs to be served by another process. The order of the descriptors is that of the fields.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) handover: Handover,
    /// The view of the mounts that it is served in.
    pub(super) namespace: OwnedFd,
    /// The root in it.
    pub(super) root: OwnedFd,
    /// Where it is asked.
    pub(super) listener: UnixListener,
    /// None while its medium is gone.
    pub(super) base: Option<File>,
    /// What is watched.
    pub(super) watched: Vec<File>,
    /// Where logins look.
    pub(super) run: Option<File>,
    pub(super) store: Vec<File>,
}

impl Kept {
    /// Make it of what came with `Word::Ready`.
    ///
    /// # Errors
    /// There are too few descriptors.
    pub(super) fn of(handover: Handover, fds: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let mut fds = fds.into_iter();
        let mut next = || {
            fds.next()
                .context("taking over a device: a descriptor is missing")
        };
        let watched_files = if handover.watched.is_some() { 2 } else { 0 };
        let at_login = handover.at_login;
        Ok(Self {
            handover,
            namespace: next()?,
            root: next()?,
            listener: next()?.into(),
            base: Some(next()?.into()),
            watched: (0..watched_files)
                .map(|_| next().map(File::from))
                .collect::<Result<_, _>>()?,
            run: at_login.then(&mut next).transpose()?.map(File::from),
            store: fds.map(File::from).collect(),
        })
    }

    /// Its descriptors, as `of` takes them.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let first = [
            self.namespace.as_fd(),
            self.root.as_fd(),
            self.listener.as_fd(),
        ];
        let files = self.base.iter().chain(&self.watched);
        let files = files.chain(&self.run).chain(&self.store);
        first.into_iter().chain(files.map(AsFd::as_fd))
    }

    /// Let go of what is on devices that are gone: what the kernel keeps of them would be in the way.
    pub(super) fn let_go(&mut self, gone: &[u64]) {
        let media = &self.handover.media;
        let is_gone = |place: &Option<KeptPlace>| {
            place
                .as_ref()
                .is_some_and(|place| gone.contains(&place.device))
        };
        if is_gone(&media.base) {
            self.base = None;
        }
        // The staging's memory stays.
        if is_gone(&media.cow) {
            self.store.truncate(1);
        }
    }

    /// What was on these devices is found again.
    ///
    /// # Errors
    /// A descriptor is missing.
    pub(super) fn take(&mut self, found: Found, fds: Vec<OwnedFd>) -> anyhow::Result<()> {
        let mut files = fds.into_iter().map(File::from);
        if found.base.is_some() {
            self.base = Some(files.next().context("taking a base: it is missing")?);
            self.handover.media.base = found.base;
        }
        if found.cow.is_some() {
            self.store.truncate(1);
            self.store.extend(files);
            self.handover.media.cow = found.cow;
        }
        Ok(())
    }
}
