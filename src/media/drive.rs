//! A drive that a medium was taken out of, and that stays: a card reader, a CD drive.
//!
//! What is put into it next has the number and the name of what was there before. As long as somebody has that mounted or
//! open, a mount shows what the kernel kept of it, and not what is there now.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::disk::lost::{folder_of, node_of, open_drive};

/// A device whose medium was taken out.
#[derive(Debug)]
pub struct Emptied {
    device: u64,
    /// Another device that comes after it, with the same number, has another folder.
    folder: u64,
}

impl Emptied {
    /// One that is still there.
    #[must_use]
    pub fn of(device: u64) -> Option<Self> {
        let folder = folder_of(device).metadata().ok()?.ino();
        Some(Self { device, folder })
    }

    /// The device's number.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.device
    }

    /// The device's node, if it is still there.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        node_of(&folder_of(self.device)).unwrap_or_default()
    }

    /// Whether it is there, and somebody still has what was in it in use.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let folder = folder_of(self.device);
        let is_there = folder.metadata().is_ok_and(|now| now.ino() == self.folder);
        // A file system claims its device, and so does this for a moment.
        let claim = || open_drive(&self.node(), libc::O_EXCL);
        is_there && claim().is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
    }
}
