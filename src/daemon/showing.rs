//! A medium that was put back, where the machine sees it: in place of the one that was pulled out, which is dead.

use super::handover::{Handover, KeptPlace, Media};
use crate::media::drive::Emptied;
use crate::media::mount::Access;
use crate::media::place::Place;
use crate::media::shown;

/// Take what was on a device of `gone` out of the machine's view, where its drive stays: what the kernel keeps of it would
/// be in the way of what is put in next. For a process of its own, which leaves its mounts.
pub(super) fn hide(gone: &[u64]) {
    for &device in gone {
        let stays = Emptied::of(device).is_some();
        if stays && let Err(error) = shown::hide(device) {
            log::warn!("{error:#}");
        }
    }
}

/// Show what was on a device of `gone` before, wherever it is now. For a process of its own, which leaves its mounts.
pub(super) fn show(handover: &Handover, before: &Media, gone: &[u64]) {
    let media = &handover.media;
    let cow_access = match handover.report.read_only {
        true => Access::Read,
        false => Access::Write,
    };
    let is_shared =
        media.base.as_ref().map(|it| it.device) == media.cow.as_ref().map(|it| it.device);
    let base_access = match is_shared {
        // Or the cowfile's medium would be set read-only.
        true => cow_access,
        false => Access::Harmless,
    };
    let base = (&media.base, &before.base, base_access);
    let cow = (&media.cow, &before.cow, cow_access);
    let mut shown = Vec::new();
    // The cowfile's first: a base on the same medium is seen there, too.
    let places = [cow, base].into_iter().filter_map(back);
    let places = places.filter(|(_, device, _)| gone.contains(device));
    let mounts: Vec<_> = places
        .filter(|(place, ..)| {
            let is_new = !place.mounted.as_os_str().is_empty() && !shown.contains(&place.mounted);
            shown.push(place.mounted.clone());
            is_new
        })
        // Their nodes are found before the machine's mounts are entered.
        .map(|(place, gone, access)| (shown::Shown::mount(&place, access), place, gone))
        .collect();
    for (mount, place, gone) in mounts {
        let at = place.mounted.display();
        match mount.and_then(|mount| mount.put(&place, gone)) {
            Ok(true) => log::info!("'{at}' shows what was put back"),
            Ok(false) => log::debug!("'{at}' shows what was put back already"),
            Err(error) => log::warn!(
                "'{at}' does not show what was put back: {error:#}; unmount it, and mount '{}'",
                place.node().display()
            ),
        }
    }
}

/// A place, and the device that it was on before: it may have the same number.
fn back(
    (now, before, access): (&Option<KeptPlace>, &Option<KeptPlace>, Access),
) -> Option<(Place, u64, Access)> {
    let (now, gone) = (Place::from(now.as_ref()?), before.as_ref()?.device);
    Some((now, gone, access))
}
