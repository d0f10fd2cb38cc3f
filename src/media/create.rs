//! A new cowfile for a base: a file that is not there yet, or a block device with nothing on it.

use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, bail};

use super::cowfile::identify;
use super::journal::journal_bytes;
use super::{probe, text};
use crate::disk::base::{self, Base};
use crate::disk::cowfile::CowFiles;
use crate::disk::growth::Growth;
use crate::engine::cowfile::create::{self, Plan};
use crate::engine::format::Shape;
use crate::engine::format::description::{
    Description, Event, EventKind, LONGEST_NAME, LONGEST_TEXT, LayerName, room,
};
use crate::engine::format::page::Origin;
use crate::engine::format::superblock::Superblock;
use crate::engine::units::CHUNK_BYTES;
use crate::sys;

/// The name of the session that a new cowfile begins with.
const FIRST_SESSION: &str = "main";

/// Slots that a new cowfile has at least: both superblocks, and three zones to write to.
const LEAST_SLOTS: u32 = 5 * Shape::PRODUCT.zone_slots;
/// The largest there is: 32 bits of slots.
const MOST_BYTES: u64 = (u32::MAX as u64 / 1024 * 1024) * CHUNK_BYTES;
/// A device is blank if so much is zeros in some places: there every file system, partition table, volume or cowfile
/// has something.
const BLANK_BYTES: usize = 1 << 20;

/// What a new cowfile is to be; what is `None` is chosen.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// What people call it.
    pub name: Option<String>,
    /// How large it may become, in bytes.
    pub max_bytes: Option<u64>,
    /// How much of it is written with zeros now, in bytes.
    pub preallocated_bytes: Option<u64>,
    /// Bytes of the device, where it is larger than its base.
    pub device_bytes: Option<u64>,
    /// Bytes after which it continues in another file.
    pub file_bytes: Option<u64>,
}

/// A cowfile that was made.
#[derive(Debug)]
pub struct Created {
    /// What it says of itself.
    pub superblock: Superblock,
    /// How it grows where it is.
    pub growth: Growth,
}

/// How many bytes are written, of how many.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// Make an empty cowfile at `path` for a base.
///
/// # Errors
/// The wishes make no sense; there is something at `path`; or the medium's. There is no cowfile then, and nothing
/// that was there has changed.
pub fn create(
    path: &Path,
    base: &Base,
    wishes: &Wishes,
    progress: &mut Progress<'_>,
) -> anyhow::Result<Created> {
    let doing = || format!("creating cowfile '{}'", path.display());
    let mut files = CowFiles::create(path).with_context(doing)?;
    let growth = files.growth();
    let made = match growth {
        Growth::Never => require_blank(&files, path).and_then(|()| {
            let whole = files.device_bytes();
            plan(base, &wishes.on_a_device(whole)?, growth, path)
        }),
        _ => plan(base, wishes, growth, path),
    };
    let made = made.and_then(|plan| write(&mut files, plan, progress));
    match made {
        Ok(superblock) => Ok(Created { superblock, growth }),
        Err(error) => {
            let left = files.take_back().err().map(|error| {
                format!(" (and what was begun could not be removed: {error}; remove it by hand)")
            });
            Err(error.context(format!("{}{}", doing(), left.unwrap_or_default())))
        }
    }
}

impl Wishes {
    /// All of a device is there, and none of it needs to be written before: what is not this cowfile's does not
    /// count, whatever it is.
    fn on_a_device(&self, whole_bytes: u64) -> anyhow::Result<Self> {
        if self.file_bytes.is_some() {
            bail!("a device has no files to continue in; leave --file-size out");
        }
        let max_bytes = self.max_bytes.unwrap_or(whole_bytes.min(MOST_BYTES));
        if max_bytes > whole_bytes {
            bail!(
                "it is to have {}, the device has {}",
                text::size(max_bytes),
                text::size(whole_bytes)
            );
        }
        Ok(Self {
            max_bytes: Some(max_bytes),
            preallocated_bytes: Some(max_bytes),
            ..self.clone()
        })
    }
}

/// Nothing on a device is lost because somebody mistook its name.
fn require_blank(files: &CowFiles, path: &Path) -> anyhow::Result<()> {
    let device = files.files().first().context("opening it")?;
    if let Some(found) = probe::probe(device) {
        bail!(
            "there is {} on it{}, which is left as it is; if nobody needs that: dd if=/dev/zero of='{}' bs=1M count=1",
            found.kind,
            found
                .label
                .map_or(String::new(), |label| format!(" (LABEL={label})")),
            path.display()
        );
    }
    let whole_bytes = files.device_bytes();
    let zone_bytes = Shape::PRODUCT.offset_bytes(Shape::PRODUCT.zone_slots);
    let len = (BLANK_BYTES as u64).min(whole_bytes);
    // Its beginning; where a cowfile's second superblock is; and its end, where tables and arrays have theirs.
    for start in [0, zone_bytes.min(whole_bytes - len), whole_bytes - len] {
        let mut bytes = vec![0; usize::try_from(len)?];
        device
            .read_exact_at(&mut bytes, start)
            .with_context(|| format!("reading it at byte {start}"))?;
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            let seek = (start + at as u64) >> 20;
            bail!(
                "it is not blank: there is something at byte {}, which is left as it is; if nobody needs what is on \
                 it: dd if=/dev/zero of='{}' bs=1M seek={seek} count=1",
                start + at as u64,
                path.display()
            );
        }
    }
    Ok(())
}

fn plan(base: &Base, wishes: &Wishes, growth: Growth, path: &Path) -> anyhow::Result<Plan> {
    let device_bytes = base::device_size_bytes(base.size_bytes(), wishes.device_bytes)?;
    let max_slots = slots(
        "--max-size",
        wishes.max_bytes.unwrap_or(room_for_all(base, device_bytes)),
    )?;
    let file_slots = match wishes.file_bytes {
        Some(bytes) => slots("--file-size", bytes)?,
        None => growth.file_slots(max_slots),
    };
    let max_bytes = Shape::PRODUCT.offset_bytes(max_slots);
    let asked = wishes
        .preallocated_bytes
        .map(|bytes| slots("--preallocate", bytes.min(max_bytes)));
    let grown_slots = match (asked.transpose()?, growth) {
        (Some(asked), _) => asked.min(max_slots),
        // A file that is used never changes its size.
        (None, Growth::WholeFiles) => file_slots.min(max_slots),
        (None, _) => LEAST_SLOTS.min(max_slots),
    };
    let grown_slots = match growth {
        Growth::WholeFiles => grown_slots
            .checked_next_multiple_of(file_slots)
            .map_or(max_slots, |slots| slots.min(max_slots)),
        _ => grown_slots,
    };
    let mut store: [u8; 16] = sys::random().context("asking the kernel for a random number")?;
    mark_as_random(&mut store);
    let incarnation = sys::random().context("asking the kernel for a random number")?;
    let description = describe(base, wishes, store, path)?;
    Ok(Plan {
        origin: Origin {
            store,
            incarnation: u64::from_le_bytes(incarnation),
        },
        shape: Shape::PRODUCT,
        device_bytes,
        base_bytes: base.size_bytes(),
        max_slots,
        grown_slots,
        file_slots,
        description: description
            .encode(room(Shape::PRODUCT))
            .map_err(|fault| anyhow::anyhow!("{fault}"))?,
    })
}

/// Room to write all of the device once, with what a cowfile needs besides: its trees, what it keeps for a file
/// system's journal, and for itself.
fn room_for_all(base: &Base, device_bytes: u64) -> u64 {
    let journal = journal_bytes(base.file()).unwrap_or(0).min(device_bytes);
    let room = device_bytes + device_bytes / 16 + journal + (256 << 20);
    room.min(MOST_BYTES)
}

/// A size in slots: whole zones.
fn slots(option: &str, bytes: u64) -> anyhow::Result<u32> {
    let zone_bytes = Shape::PRODUCT.offset_bytes(Shape::PRODUCT.zone_slots);
    let least = Shape::PRODUCT.offset_bytes(LEAST_SLOTS);
    if !(least..=MOST_BYTES).contains(&bytes) {
        bail!(
            "{option}: {} is not from {} to {}",
            text::size(bytes),
            text::size(least),
            text::size(MOST_BYTES)
        );
    }
    Ok(u32::try_from(
        bytes / zone_bytes * zone_bytes / CHUNK_BYTES,
    )?)
}

/// Version 4 of RFC 9562: random.
fn mark_as_random(uuid: &mut [u8; 16]) {
    let [_, _, _, _, _, _, version, _, variant, ..] = uuid;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
}

fn describe(
    base: &Base,
    wishes: &Wishes,
    store: [u8; 16],
    path: &Path,
) -> anyhow::Result<Description> {
    let now_s = sys::now_s();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match &wishes.name {
        Some(name) => name.clone(),
        None => shortened(&stem, LONGEST_NAME),
    };
    let made_for = format!("for '{}'", base.path().display());
    Ok(Description {
        name,
        made_s: now_s,
        made_by: env!("CARGO_PKG_VERSION").into(),
        base: identify(base, store)?,
        layers: vec![LayerName {
            number: 0,
            name: FIRST_SESSION.into(),
            made_s: now_s,
            sealed_s: None,
        }],
        history: vec![Event {
            at_s: now_s,
            kind: EventKind::Made,
            text: shortened(&made_for, LONGEST_TEXT),
        }],
    })
}

/// At most so many bytes of a text.
pub(in crate::media) fn shortened(text: &str, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    text.get(..end).unwrap_or_default().to_owned()
}

/// First the space, then both superblocks: until then it is no cowfile.
fn write(
    files: &mut CowFiles,
    plan: Plan,
    progress: &mut Progress<'_>,
) -> anyhow::Result<Superblock> {
    files.set_file_slots(plan.file_slots);
    if plan.file_slots < plan.max_slots && files.has_sibling() {
        bail!(
            "there is something named like it with '.1' behind, where it would go on; move that away"
        );
    }
    if files.growth() != Growth::Never {
        let total = Shape::PRODUCT.offset_bytes(plan.grown_slots);
        let grown = files.grow(0, plan.grown_slots, plan.origin, &mut |file, at| {
            file.sync_all()?;
            progress(at, total);
            Ok(())
        });
        grown.with_context(|| format!("writing its first {}", text::size(total)))?;
    }
    create::create(files, plan)
        .map_err(|_| anyhow::anyhow!("writing its superblocks: the medium cannot be written"))
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
