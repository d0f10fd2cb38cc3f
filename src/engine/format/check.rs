//! Whether this program may read, or write, the cowfile that a superblock tells of.
//!
//! A right checksum says that the bytes are those that were written. It does not say that whoever
//! wrote them meant what this program understands: that is looked at here, before anything is
//! followed.

use std::fmt;

use zerocopy::FromBytes;

use super::page::{self, Header, Kind};
use super::superblock::{
    self, BASE, DESCRIPTION_VERSION, HEAD_LEN, KNOWN_INCOMPAT, KNOWN_RO_COMPAT, LayerState,
    MERGING, MergeState, RawSuperblock, Superblock,
};
use super::{Entry, Shape, tree};

/// Generations, sequence numbers and epochs begin low and go up by one: none comes near this.
const COUNTERS_END: u64 = 1 << 62;
/// No block device is longer: the kernel counts its bytes with a sign.
const DEVICES_END: u64 = 1 << 63;

/// Bits of `incompat` that are taken, by their numbers; docs/format.md, Versions.
pub const INCOMPAT_NAMES: [&str; 2] = [
    "compressed slots",
    "a file system, not a device, below the lowest layer",
];
/// Bits of `ro_compat` that are taken.
pub const RO_COMPAT_NAMES: [&str; 1] = ["a merge into the base is under way"];

/// What is found where a superblock should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A superblock, not checked yet.
    Superblock(Box<Superblock>),
    /// One of another version of the format, its checksum right: never to be passed over.
    OtherVersion(u16),
    /// One that says it needs these features, which are not known here; never to be passed over either.
    Newer(Vec<String>),
    /// It was one, or is a torn one: the magic is there, the checksums are not right.
    Damaged,
    /// Nothing that a cowfile begins with.
    Nothing,
}

/// What may be done with a cowfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// It must not be written: these features are not known here.
    ReadOnly(Vec<String>),
}

/// Why a cowfile is not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It needs features that are not known here.
    Newer(Vec<String>),
    /// It is built with sizes that this program does not use.
    Shape(Shape),
    /// Its checksum is right, but what it says cannot be: whoever wrote it had a bug.
    Implausible(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer(names) => write!(
                to,
                "made by a newer cowroot: it uses {}; open it with that version",
                names.join(", ")
            ),
            Self::Shape(shape) => write!(
                to,
                "built with chunks of {} bytes, tree pages of {} entries and zones of {} slots, \
                 which this version does not read",
                shape.chunk_bytes(),
                shape.fanout(),
                shape.zone_slots
            ),
            Self::Implausible(what) => write!(
                to,
                "its superblock is intact and yet cannot be right: {what}; this is a bug, please report it"
            ),
        }
    }
}

/// What `bytes`, read from `slot` on, hold.
#[must_use]
pub fn look(bytes: &[u8], slot: u32) -> Found {
    if let Some(superblock) = Superblock::decode(bytes, slot) {
        return Found::Superblock(Box::new(superblock));
    }
    let Ok((header, _)) = Header::ref_from_prefix(bytes) else {
        return Found::Nothing;
    };
    if header.magic != page::MAGIC || header.kind.get() != Kind::Superblock as u16 {
        return Found::Nothing;
    }
    let head = bytes.get(..HEAD_LEN).unwrap_or_default();
    let sum = head.get(4..).map(page::checksum);
    let Some(raw) = RawSuperblock::ref_from_bytes(head)
        .ok()
        .filter(|raw| sum == Some(raw.header.crc.get()))
    else {
        return Found::Damaged;
    };
    for (version, known) in [
        (header.version.get(), page::VERSION),
        (raw.description_version.get(), DESCRIPTION_VERSION),
    ] {
        if version != known {
            return Found::OtherVersion(version);
        }
    }
    match raw.incompat.get() & !KNOWN_INCOMPAT {
        0 => Found::Damaged,
        unknown => Found::Newer(names(unknown, &INCOMPAT_NAMES)),
    }
}

/// Whether a cowfile of this superblock may be opened by a program that builds its own in `shape`
/// (a product: `Shape::PRODUCT`).
///
/// # Errors
/// Why not.
pub fn check(superblock: &Superblock, shape: Shape) -> Result<Access, Refusal> {
    let features = superblock.features;
    // Before all else: what an unknown feature changes, this program cannot judge.
    let unknown = features.incompat & !KNOWN_INCOMPAT;
    if unknown != 0 {
        return Err(Refusal::Newer(names(unknown, &INCOMPAT_NAMES)));
    }
    if superblock.shape != shape {
        return Err(Refusal::Shape(superblock.shape));
    }
    counters(superblock)
        .and_then(|()| places(superblock))
        .and_then(|()| layers(superblock))
        .and_then(|()| merge(superblock))
        .map_err(Refusal::Implausible)?;
    Ok(match features.ro_compat & !KNOWN_RO_COMPAT {
        0 => Access::ReadWrite,
        unknown => Access::ReadOnly(names(unknown, &RO_COMPAT_NAMES)),
    })
}

fn names(bits: u64, known: &[&str]) -> Vec<String> {
    let set = (0..64_usize).filter(|bit| bits >> bit & 1 == 1);
    set.map(|bit| match known.get(bit) {
        Some(name) => (*name).to_owned(),
        None => format!("a feature without a name here (bit {bit})"),
    })
    .collect()
}

fn must(fine: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if fine { Ok(()) } else { Err(otherwise()) }
}

/// Numbers that only go up: adding to them must never overflow.
fn counters(superblock: &Superblock) -> Result<(), String> {
    for (what, number) in [
        ("generation", superblock.generation),
        ("epoch", superblock.epoch),
        ("page of the journal", superblock.journal.seq),
        ("durable page", superblock.durable_seq),
    ] {
        must(number < COUNTERS_END, || format!("{what} number {number}"))?;
    }
    Ok(())
}

/// Sizes, and slots that are named.
fn places(superblock: &Superblock) -> Result<(), String> {
    let Superblock {
        shape,
        max_slots,
        grown_slots,
        file_slots,
        high_water,
        journal,
        ..
    } = *superblock;
    must(superblock.device_bytes > 0, || {
        "a device of no bytes".into()
    })?;
    must(superblock.device_bytes < DEVICES_END, || {
        format!("a device of {} bytes", superblock.device_bytes)
    })?;
    let height = shape.height(superblock.chunks());
    must(
        u32::from(height) * u32::from(shape.fanout_shift) < 64,
        || format!("a device of {} bytes", superblock.device_bytes),
    )?;
    must(tree::length(shape) <= shape.chunk_len(), || {
        format!("tree pages of {} entries", shape.fanout())
    })?;
    // In 64 bits: `first_slot` of a zone size that is nonsense does not fit 32.
    must(
        u64::from(max_slots) > 2 * u64::from(shape.zone_slots),
        || format!("at most {max_slots} slots, which is less than the two superblocks take"),
    )?;
    must(file_slots >= shape.first_slot(), || {
        format!("files of {file_slots} slots, which have no room for both superblocks")
    })?;
    must(grown_slots <= max_slots, || {
        format!("{grown_slots} slots of at most {max_slots}")
    })?;
    must(high_water <= max_slots, || {
        format!("slots in use up to {high_water} of at most {max_slots}")
    })?;
    let free = superblock.free.iter().map(|free| u64::from(free.slots));
    let free: u64 = free.sum();
    must(free <= u64::from(max_slots), || {
        format!("{free} free slots of at most {max_slots}")
    })?;
    must(is_grown(superblock, journal.slot), || {
        format!("a journal from slot {} on", journal.slot)
    })?;
    let zone_bytes = shape.offset_bytes(shape.zone_slots);
    must(superblock.len() as u64 <= zone_bytes, || {
        format!("a description of {} bytes", superblock.description.len())
    })
}

/// Whether a slot can hold a chunk, or a page of journal or tree, of a superblock that `check` accepts.
#[must_use]
pub fn is_usable(superblock: &Superblock, slot: u32) -> bool {
    are_usable(superblock, slot, 1)
}

/// The same of `count` slots in a row, at least one.
#[must_use]
pub fn are_usable(superblock: &Superblock, first: u32, count: usize) -> bool {
    let (file_slots, count) = (u64::from(superblock.file_slots), count as u64);
    let within_file = u64::from(first) % file_slots;
    first >= superblock.shape.first_slot()
        && u64::from(first) + count <= u64::from(superblock.max_slots)
        // The first slot of a file is its header.
        && within_file > 0
        && within_file + count <= file_slots
}

/// Whether a superblock may name a slot itself: what it names was durable before it.
fn is_grown(superblock: &Superblock, slot: u32) -> bool {
    is_usable(superblock, slot) && slot < superblock.grown_slots
}

/// What is merged is there; what was merged stands below nothing that is in use.
fn merge(superblock: &Superblock) -> Result<(), String> {
    let merge = superblock.merge;
    let under_way = merge.state == MergeState::UnderWay;
    must(
        under_way == (superblock.features.ro_compat & MERGING != 0),
        || "a merge is under way and not said to be, or the other way round".into(),
    )?;
    let in_stack = |layer: u8| {
        superblock
            .stack()
            .iter()
            .any(|(number, _)| *number == layer)
    };
    must(!under_way || in_stack(merge.top), || {
        format!("a merge of layer {}, which is not in use", merge.top)
    })?;
    for (number, layer) in (0..).zip(&superblock.layers) {
        let is_sealed = layer.is_some_and(|layer| layer.state == LayerState::Sealed);
        must(
            !merge.keeps(number) || is_sealed && !in_stack(number),
            || format!("layer {number}, which was merged, is in use"),
        )?;
    }
    Ok(())
}

fn layers(superblock: &Superblock) -> Result<(), String> {
    let layer = |number: u8| {
        superblock
            .layers
            .get(usize::from(number))
            .copied()
            .flatten()
    };
    let active = superblock.active_layer;
    must(
        layer(active).is_some_and(|layer| layer.state == LayerState::Active),
        || format!("writes go to layer {active}, which is not an active one"),
    )?;
    for number in 0..BASE {
        let Some(one) = layer(number) else { continue };
        let Entry { slot, crc } = one.root;
        let fine = if one.root.is_slot() {
            is_grown(superblock, slot)
        } else {
            crc == 0
        };
        must(fine, || {
            format!("layer {number} has its tree at slot {slot}")
        })?;
        let mut below = one.parent;
        let mut seen = 1;
        while let Some(parent) = below {
            let sealed = layer(parent).filter(|parent| parent.state == LayerState::Sealed);
            let Some(next) = sealed else {
                return Err(format!(
                    "layer {number} stands on {parent}, which is not a sealed one"
                ));
            };
            seen += 1;
            must(seen <= superblock::MAX_LAYERS, || {
                format!("layer {number} stands on itself")
            })?;
            below = next.parent;
        }
    }
    Ok(())
}
