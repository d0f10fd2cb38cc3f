//! Superblocks: where everything begins.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::commit::Link;
use super::page::{self, Header, Kind, Origin};
use super::{Entry, Shape};

pub use super::merge::{Merge, MergeState};

/// Layers of a cowfile.
pub const MAX_LAYERS: usize = 64;
/// Bytes of a superblock's head; the description is behind it.
pub const HEAD_LEN: usize = size_of::<RawSuperblock>();
/// What a head that was torn is filled with before another is written to its place. No sector of a superblock is
/// full of it, so no part of the erasing makes up for a part of what was to be there (zeros could).
pub const ERASED: u8 = 0xff;
/// Extents of free slots that a superblock names at most.
pub const FREE_EXTENTS: usize = 128;
/// A layer that stands on the base has this parent.
pub const BASE: u8 = 255;
/// The kind of description written here.
pub const DESCRIPTION_VERSION: u16 = 1;

/// Features that a program must know to read the cowfile, and that this one knows.
pub const KNOWN_INCOMPAT: u64 = 0;
/// Features that a program must know to write the cowfile, and that this one knows.
pub const KNOWN_RO_COMPAT: u64 = MERGING;
/// The bit of `ro_compat` that says that a merge into the base is under way.
pub const MERGING: u64 = 1;
/// Features that a program may clear if it does not know them, and that this one knows.
pub const KNOWN_AUTOCLEAR: u64 = 0;

/// `Superblock` of docs/format.md.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "docs/format.md has each field's meaning")]
pub struct RawSuperblock {
    pub header: Header,
    pub incompat: U64,
    pub ro_compat: U64,
    pub compat: U64,
    pub autoclear: U64,
    pub device_bytes: U64,
    pub base_bytes: U64,
    pub max_slots: U32,
    pub grown_slots: U32,
    pub file_slots: U32,
    pub high_water: U32,
    pub zone_slots: U32,
    pub chunk_shift: u8,
    pub fanout_shift: u8,
    pub active_layer: u8,
    pub state: u8,
    pub journal_start: U32,
    pub journal_previous: U32,
    pub journal_seq: U64,
    pub durable_seq: U64,
    pub epoch: U64,
    pub description_bytes: U32,
    pub description_crc: U32,
    pub description_version: U16,
    pub merge: u8,
    pub merge_top: u8,
    pub merge_flags: U16,
    pub merge_id: U64,
    pub merged: U64,
    pub reserved: [u8; 826],
    pub layers: [LayerRoot; MAX_LAYERS],
    pub free: [RawExtent; FREE_EXTENTS],
    pub reserved_end: [u8; 1024],
}

/// `LayerRoot` of docs/format.md.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "docs/format.md has each field's meaning")]
pub struct LayerRoot {
    pub root: U32,
    pub crc: U32,
    pub state: u8,
    pub parent: u8,
    pub reserved: [u8; 6],
}

/// `Extent` of docs/format.md.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs, reason = "docs/format.md has each field's meaning")]
pub struct RawExtent {
    pub first: U32,
    pub slots: U32,
}

/// Consecutive slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The lowest of them.
    pub first: u32,
    /// How many.
    pub slots: u32,
}

/// Whether a layer takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// It does, or did when it was last on top.
    Active,
    /// It never will again.
    Sealed,
}

/// A layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Its tree.
    pub root: Entry,
    /// Whether it takes writes.
    pub state: LayerState,
    /// The layer below, if not the base.
    pub parent: Option<u8>,
}

/// Words of features; see docs/format.md, Versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/format.md has each word's meaning")]
pub struct Features {
    pub incompat: u64,
    pub ro_compat: u64,
    pub compat: u64,
    pub autoclear: u64,
}

/// A superblock as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Whose, and of which open.
    pub origin: Origin,
    /// The higher one counts.
    pub generation: u64,
    /// What it takes to read and write the cowfile.
    pub features: Features,
    /// Bytes of the device.
    pub device_bytes: u64,
    /// Bytes of its base.
    pub base_bytes: u64,
    /// Sizes it is built with.
    pub shape: Shape,
    /// How large it may become, in slots.
    pub max_slots: u32,
    /// How far it is written with zeros.
    pub grown_slots: u32,
    /// Slots of each file.
    pub file_slots: u32,
    /// No slot from here on was in use.
    pub high_water: u32,
    /// Nothing in the journal: it was closed in order.
    pub clean: bool,
    /// The journal's first page.
    pub journal: Link,
    /// Commit pages up to here are durable with all they name.
    pub durable_seq: u64,
    /// The last epoch folded into the trees.
    pub epoch: u64,
    /// The layer that writes go to.
    pub active_layer: u8,
    /// By number.
    pub layers: [Option<Layer>; MAX_LAYERS],
    /// Some of the slots that were free when it was made, at most `FREE_EXTENTS`: so that an open need not read all
    /// trees before it can write.
    pub free: Vec<Extent>,
    /// A merge into the base: asked for, under way, or over.
    pub merge: Merge,
    /// An archive; `description.rs` knows what is in it.
    pub description: Vec<u8>,
}

/// The slots where the superblocks are.
#[must_use]
pub fn slots(shape: Shape) -> [u32; 2] {
    [0, shape.zone_slots]
}

/// How long the description behind a superblock's head is, if `bytes` begin like a superblock.
#[must_use]
pub fn description_bytes(bytes: &[u8]) -> Option<usize> {
    let (raw, _) = RawSuperblock::ref_from_prefix(bytes).ok()?;
    (raw.header.magic == page::MAGIC).then_some(raw.description_bytes.get() as usize)
}

impl Superblock {
    /// Bytes it takes from its slot on.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it always takes some bytes")]
    pub fn len(&self) -> usize {
        HEAD_LEN + self.description.len()
    }

    /// Which of the two slots this generation goes to.
    #[must_use]
    pub fn slot(&self) -> u32 {
        if self.generation.is_multiple_of(2) {
            self.shape.zone_slots
        } else {
            0
        }
    }

    /// Write it; `bytes` is at least `len` long, and the rest becomes zeros.
    pub fn encode(&self, bytes: &mut [u8]) {
        bytes.fill(0);
        let mut raw = RawSuperblock::new_zeroed();
        raw.header = Header::new(
            Kind::Superblock,
            self.origin,
            self.generation,
            self.slot(),
            HEAD_LEN,
        );
        raw.incompat = self.features.incompat.into();
        raw.ro_compat = self.features.ro_compat.into();
        raw.compat = self.features.compat.into();
        raw.autoclear = self.features.autoclear.into();
        raw.device_bytes = self.device_bytes.into();
        raw.base_bytes = self.base_bytes.into();
        raw.max_slots = self.max_slots.into();
        raw.grown_slots = self.grown_slots.into();
        raw.file_slots = self.file_slots.into();
        raw.high_water = self.high_water.into();
        raw.zone_slots = self.shape.zone_slots.into();
        raw.chunk_shift = self.shape.chunk_shift;
        raw.fanout_shift = self.shape.fanout_shift;
        raw.active_layer = self.active_layer;
        raw.state = u8::from(!self.clean);
        raw.journal_start = self.journal.slot.into();
        raw.journal_previous = self.journal.previous.into();
        raw.journal_seq = self.journal.seq.into();
        raw.durable_seq = self.durable_seq.into();
        raw.epoch = self.epoch.into();
        raw.description_bytes = u32::try_from(self.description.len())
            .unwrap_or(u32::MAX)
            .into();
        raw.description_crc = page::checksum(&self.description).into();
        raw.description_version = DESCRIPTION_VERSION.into();
        self.merge.encode(&mut raw);
        for (place, layer) in raw.layers.iter_mut().zip(&self.layers) {
            if let Some(layer) = layer {
                *place = layer.encode();
            }
        }
        for (place, extent) in raw.free.iter_mut().zip(&self.free) {
            place.first = extent.first.into();
            place.slots = extent.slots.into();
        }
        page::seal(raw.as_mut_bytes());
        if let Some(place) = bytes.get_mut(..HEAD_LEN) {
            place.copy_from_slice(raw.as_bytes());
        }
        if let Some(place) = bytes.get_mut(HEAD_LEN..self.len()) {
            place.copy_from_slice(&self.description);
        }
    }

    /// The superblock that `bytes`, read from `slot` on, holds.
    #[must_use]
    pub fn decode(bytes: &[u8], slot: u32) -> Option<Self> {
        let (raw, behind) = RawSuperblock::ref_from_prefix(bytes).ok()?;
        let header = page::header(raw.as_bytes(), Kind::Superblock)?;
        let description = behind.get(..usize::try_from(raw.description_bytes.get()).ok()?)?;
        let shape = Shape {
            chunk_shift: raw.chunk_shift,
            fanout_shift: raw.fanout_shift,
            zone_slots: raw.zone_slots.get(),
        };
        let mut layers = [None; MAX_LAYERS];
        for (place, raw) in layers.iter_mut().zip(&raw.layers) {
            *place = raw.decode()?;
        }
        let extent = |raw: &RawExtent| Extent {
            first: raw.first.get(),
            slots: raw.slots.get(),
        };
        let extents = raw.free.iter().map(extent);
        let fine = header.slot.get() == slot
            && header.length.get() as usize == HEAD_LEN
            && raw.description_version.get() == DESCRIPTION_VERSION
            && page::checksum(description) == raw.description_crc.get()
            && raw.state <= 1
            && raw.merge <= 2
            && (9..=16).contains(&shape.chunk_shift)
            && (1..=8).contains(&shape.fanout_shift)
            && shape.zone_slots > 0;
        let found = fine.then(|| Self {
            origin: header.origin(),
            generation: header.seq.get(),
            features: Features {
                incompat: raw.incompat.get(),
                ro_compat: raw.ro_compat.get(),
                compat: raw.compat.get(),
                autoclear: raw.autoclear.get(),
            },
            device_bytes: raw.device_bytes.get(),
            base_bytes: raw.base_bytes.get(),
            shape,
            max_slots: raw.max_slots.get(),
            grown_slots: raw.grown_slots.get(),
            file_slots: raw.file_slots.get(),
            high_water: raw.high_water.get(),
            clean: raw.state == 0,
            journal: Link {
                slot: raw.journal_start.get(),
                seq: raw.journal_seq.get(),
                previous: raw.journal_previous.get(),
            },
            durable_seq: raw.durable_seq.get(),
            epoch: raw.epoch.get(),
            active_layer: raw.active_layer,
            layers,
            free: extents.filter(|extent| extent.slots > 0).collect(),
            merge: Merge::decode(raw),
            description: description.to_vec(),
        });
        // At the other copy's place: the next one would overwrite the newest.
        found.filter(|found| found.slot() == slot)
    }

    /// Chunks of the device; the last may be cut short by its end.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.device_bytes.div_ceil(self.shape.chunk_bytes())
    }

    /// The layer of this number, if there is one.
    #[must_use]
    pub fn layer(&self, number: u8) -> Option<Layer> {
        self.layers.get(usize::from(number)).copied().flatten()
    }

    /// The active layer and those below it, from the top.
    #[must_use]
    pub fn stack(&self) -> Vec<(u8, Layer)> {
        self.downward().collect()
    }

    /// The same layers' trees.
    pub fn roots(&self) -> impl Iterator<Item = (u8, Entry)> {
        self.downward().map(|(number, layer)| (number, layer.root))
    }

    fn downward(&self) -> impl Iterator<Item = (u8, Layer)> {
        let layer = |number: u8| Some((number, self.layer(number)?));
        std::iter::successors(layer(self.active_layer), move |(_, above)| {
            above.parent.and_then(layer)
        })
        .take(MAX_LAYERS)
    }
}

impl Layer {
    fn encode(&self) -> LayerRoot {
        LayerRoot {
            root: self.root.slot.into(),
            crc: self.root.crc.into(),
            state: match self.state {
                LayerState::Active => 1,
                LayerState::Sealed => 2,
            },
            parent: self.parent.unwrap_or(BASE),
            reserved: [0; 6],
        }
    }
}

impl LayerRoot {
    /// Outer `None`: nothing that this version writes.
    #[expect(clippy::option_option, reason = "no layer is a valid layer root")]
    fn decode(&self) -> Option<Option<Layer>> {
        let state = match self.state {
            0 => return Some(None),
            1 => LayerState::Active,
            2 => LayerState::Sealed,
            _ => return None,
        };
        let root = Entry {
            slot: self.root.get(),
            crc: self.crc.get(),
        };
        let parent = (self.parent != BASE).then_some(self.parent);
        Some(Some(Layer {
            root,
            state,
            parent,
        }))
    }
}
