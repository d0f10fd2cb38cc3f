//! What looks like a medium that was pulled out: whether it is the one, and what was on it, opened anew.
//!
//! Nothing on it has changed before it is known to be the one: another medium, a copy of this one perhaps, stays as it is.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, bail};

use super::handover::{Found, KeptPlace, StoreState};
use super::kept::Kept;
use super::opening::{cow_files, left, mode};
use super::persistent;
use crate::disk::base::Base;
use crate::disk::cowfile::{CowFiles, Mode};
use crate::disk::spots::Spots;
use crate::engine::format::description::{Description, Identity};
use crate::engine::format::superblock::{DESCRIPTION_VERSION, MergeState};
use crate::engine::identity::compare;
use crate::media::cowfile::identify;
use crate::media::mount::{self, Access};
use crate::media::namespace;
use crate::media::place::Place;
use crate::sys::Extent;

/// What is found, with its descriptors in their order.
pub(super) type Handed = (Found, Vec<OwnedFd>);

/// Mount and open them, and make sure that it is they.
pub(super) fn open(
    kept: &Kept,
    base: Option<&Place>,
    cow: Option<&Place>,
    is_shared: bool,
) -> anyhow::Result<Handed> {
    let access = match mode(kept) {
        Mode::Write => Access::Write,
        Mode::Read => Access::Read,
    };
    if let Some(cow) = cow {
        look_first(kept, cow)?;
    }
    let cow_root = cow.map(|cow| mounted(cow, access)).transpose()?.flatten();
    // Those of the supervisor stay locked whatever becomes of these.
    let mut held = None;
    let mut files = cow
        .map(|cow| open_cow(kept, cow, cow_root.as_ref(), mode(kept)))
        .transpose()?;
    let of_base = match (&kept.handover.store, &mut files) {
        (StoreState::Ram { .. }, _) => kept.handover.media.identity.clone(),
        (StoreState::Medium { .. }, Some(files)) => verify(kept, files)?,
        (StoreState::Medium { .. }, none) => {
            debug_assert!(none.is_none(), "no cowfile was opened");
            let files = held.insert(ManuallyDrop::new(cow_files(kept)?));
            verify(kept, files)?
        }
    };
    let base_root = match base {
        Some(_) if is_shared => cow_root,
        Some(base) => mounted(base, Access::Harmless)?,
        None => None,
    };
    let opened = base.map(|base| open_base(kept, base, base_root.as_ref(), of_base.as_ref()));
    let opened = opened.transpose()?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    if let Some(opened) = &opened {
        let file = opened.file().try_clone().context("keeping the base")?;
        fds.push(file.into());
    }
    if let Some(files) = &files {
        let files = files.again().context("keeping the cowfile")?;
        fds.extend(files.into_iter().map(OwnedFd::from));
    }
    // Their locks are the descriptors', which go on.
    std::mem::forget((opened, files));
    let found = Found {
        base: base.map(KeptPlace::from),
        cow: cow.map(KeptPlace::from),
    };
    Ok((found, fds))
}

/// Whether the cowfile of a medium that is to be mounted is the one, before it is mounted to be written: a journal would
/// be replayed, and a mark be made.
fn look_first(kept: &Kept, cow: &Place) -> anyhow::Result<()> {
    let StoreState::Medium { found: first, .. } = kept.handover.store else {
        return Ok(());
    };
    let spots = &kept.handover.media.spots;
    if cow.is_device() {
        // Opening it changes nothing.
        return Ok(());
    }
    if spots.is_empty() {
        let root = mounted(cow, Access::Read)?;
        let mut files = open_cow(kept, cow, root.as_ref(), Mode::Read)?;
        return persistent::verify(&mut files, &left(kept)?, first).map(drop);
    }
    let node = cow.node();
    let device = File::open(&node).with_context(|| format!("opening '{}'", node.display()))?;
    let extents = spots.iter().map(|&[offset, place, bytes]| Extent {
        offset,
        place,
        bytes,
        is_plain: true,
    });
    let mut spots = Spots {
        device: &device,
        extents: &extents.collect::<Vec<_>>(),
    };
    persistent::verify_superblock(&mut spots, &left(kept)?, first)
}

fn open_cow(
    kept: &Kept,
    place: &Place,
    root: Option<&OwnedFd>,
    mode: Mode,
) -> anyhow::Result<CowFiles> {
    let open = |path: &Path| CowFiles::open(path, mode);
    match root {
        Some(root) => namespace::inside(root.as_fd(), kept.root.as_fd(), || open(&place.path))?,
        None => open(&place.node()),
    }
    .context("opening the cowfile on it")
}

/// Whether it is the cowfile that was served, as it was; and which base it wants: one that is being merged into has
/// other content than it says.
fn verify(kept: &Kept, files: &mut CowFiles) -> anyhow::Result<Option<(Identity, [u8; 16])>> {
    let StoreState::Medium { found: first, .. } = kept.handover.store else {
        bail!("the store is in RAM");
    };
    let found = persistent::verify(files, &left(kept)?, first)?;
    let superblock = &found.superblock;
    let description = Description::decode(DESCRIPTION_VERSION, &superblock.description);
    let description = description.map_err(|fault| anyhow::anyhow!("the cowfile on it: {fault}"))?;
    let is_merging = superblock.merge.state == MergeState::UnderWay;
    Ok((!is_merging).then_some((description.base, superblock.origin.store)))
}

fn open_base(
    kept: &Kept,
    place: &Place,
    root: Option<&OwnedFd>,
    wanted: Option<&(Identity, [u8; 16])>,
) -> anyhow::Result<Base> {
    let base = match root {
        Some(root) => {
            namespace::inside(root.as_fd(), kept.root.as_fd(), || Base::open(&place.path))??
        }
        None => {
            mount::set_read_only(&place.node())?;
            Base::open(&place.node())?
        }
    };
    let was_bytes = kept.handover.report.base_bytes;
    if base.size_bytes() != was_bytes {
        bail!(
            "the base on it has {} bytes, not {was_bytes}",
            base.size_bytes()
        );
    }
    if let Some((wanted, seed)) = wanted
        && let Err(difference) = compare(wanted, &identify(&base, *seed)?, None)
    {
        bail!("the base on it is another one: {difference}");
    }
    Ok(base)
}

/// The file system that a place is in, mounted at no place; none if it is the device itself.
fn mounted(place: &Place, access: Access) -> anyhow::Result<Option<OwnedFd>> {
    match &place.kind {
        Some(kind) if !place.is_device() => mount::detached(&place.node(), kind, access).map(Some),
        _ => Ok(None),
    }
}
