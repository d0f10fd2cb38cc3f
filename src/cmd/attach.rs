//! `cowroot attach`: start a daemon for a base and a cowfile, print the device.

use std::path::Path;

use anyhow::{Context, bail};

use crate::boot::{device, modules::Modules};
use crate::cli::Attach;
use crate::daemon::starter::Starter;
use crate::daemon::supervisor::serve;
use crate::daemon::{self, Options};
use crate::media::open::CowStore;
use crate::media::session::Wish;
use crate::ublk;

/// Attach and return, or stay in the foreground until detached.
///
/// # Errors
/// Options that make no sense, or why there is no device now.
pub fn run(attach: &Attach) -> anyhow::Result<()> {
    let options = options(attach)?;
    super::require_root("attaching a device")?;
    if !Path::new(ublk::CONTROL).exists() {
        device::load_ublk(&Modules::open()?)?;
    }
    if attach.foreground {
        serve(&options, Starter::Terminal)?;
        return Ok(());
    }
    let attached = daemon::launch(&options)?;
    println!("{}", attached.device().display());
    Ok(())
}

/// What to serve, from the words of the command line.
///
/// # Errors
/// The word that cannot be understood.
pub(super) fn options(attach: &Attach) -> anyhow::Result<Options> {
    let cow = match attach.cow.to_str() {
        Some(text) => text.parse().map_err(anyhow::Error::msg),
        // No word of ours, so a path.
        None => Ok(CowStore::File(attach.cow.clone().into())),
    };
    let cow = cow.context("reading --cow")?;
    let durability = attach.durability.parse().map_err(anyhow::Error::msg);
    let durability = durability.context("reading --durability")?;
    let session = attach.session.parse().map_err(anyhow::Error::msg);
    let session: Wish = session.context("reading --session")?;
    if matches!(cow, CowStore::Tmpfs(_)) && session != Wish::Resume(None) {
        bail!(
            "reading --session: a tmpfs begins a new session each time; name a cowfile with --cow"
        );
    }
    let size_bytes = super::size_of("--size", attach.size.as_deref())?;
    Ok(Options {
        base: attach.base.clone(),
        carrier: None,
        notice: None,
        cow,
        durability,
        session,
        id: attach.id,
        size_bytes,
        read_only: attach.read_only,
        lost_s: attach.lost,
    })
}
