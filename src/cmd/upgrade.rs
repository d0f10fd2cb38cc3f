//! `cowroot upgrade`: running devices are served by this binary from now on; `take-over` is what it becomes there.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::detach::device_id;
use crate::cli::{TakeOver, Upgrade};
use crate::daemon::protocol::{Answer, Question, ask_with};
use crate::daemon::{supervisor, upgrade};
use crate::ublk::devices::device_ids;

/// Hand one device, or all of cowroot's, to this binary.
///
/// # Errors
/// A device that is no cowroot device, or cannot be handed over; it is served as before then. The others are handed
/// over all the same.
pub fn run(upgrade: &Upgrade) -> anyhow::Result<()> {
    super::require_root("upgrading a device")?;
    let binary = in_ram().context("reading this binary")?;
    if let Some(name) = &upgrade.device {
        return match hand_over(device_id(name)?, &binary)? {
            true => Ok(()),
            false => bail!(
                "upgrading '{name}': cowroot serves no such device; `cowroot status` lists those it does"
            ),
        };
    }
    let mut refused = Vec::new();
    for id in device_ids() {
        if let Err(error) = hand_over(id, &binary) {
            refused.push(format!("{error:#}"));
        }
    }
    match refused.is_empty() {
        true => Ok(()),
        false => bail!("{}", refused.join("\n")),
    }
}

/// Whether there was such a device.
fn hand_over(id: u32, binary: &File) -> anyhow::Result<bool> {
    match ask_with(id, &Question::Upgrade, Some(binary.as_fd()))? {
        None => Ok(false),
        Some(Answer::Done) => {
            println!("/dev/ublkb{id}: version {}", env!("CARGO_PKG_VERSION"));
            Ok(true)
        }
        Some(Answer::Refused(reason) | Answer::Failed(reason)) => bail!("{reason}"),
        Some(Answer::Status(_) | Answer::Said(_) | Answer::Superblock(..)) => {
            bail!("upgrading /dev/ublkb{id}: its daemon answered something else")
        }
    }
}

/// This binary, in RAM: its file may be on the very device that it is to serve.
fn in_ram() -> anyhow::Result<File> {
    let mut from = File::open("/proc/self/exe")?;
    let mut copy = File::from(memfd_create(c"cowroot", MFdFlags::MFD_CLOEXEC)?);
    std::io::copy(&mut from, &mut copy)?;
    Ok(copy)
}

/// Go on where another binary ended. Whether all went well.
///
/// # Errors
/// It cannot, and why; then the other one goes on.
pub fn take_over(from: &TakeOver) -> anyhow::Result<bool> {
    let handed = upgrade::TakeOver {
        fds: from.fds.clone(),
        answer: from.answer,
    };
    match from.is_trial {
        true => supervisor::try_to_take_over(&handed).map(|()| true),
        false => supervisor::take_over(&handed),
    }
}
