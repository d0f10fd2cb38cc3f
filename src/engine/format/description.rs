//! The description behind a superblock's head: names, times and the base's identity, as an rkyv archive.
//!
//! rkyv's checks are for memory safety; most flipped bits pass them. So these bytes are only looked at
//! when `superblock.rs` has found their checksum right. An archived type never changes: another one
//! gets another `description_version`.

use std::fmt;

use rkyv::rancor::Error as ArchiveError;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::Shape;
use super::superblock::{DESCRIPTION_VERSION, HEAD_LEN, MAX_LAYERS};

/// Bytes of a name, in UTF-8.
pub const LONGEST_NAME: usize = 64;
/// Bytes of an event's text.
pub const LONGEST_TEXT: usize = 256;
/// Events that are kept.
pub const MOST_EVENTS: usize = 256;
/// Samples of a base.
pub const MOST_SAMPLES: usize = 64;

/// Version 1.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Description {
    /// What people call the cowfile.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub made_s: u64,
    /// The version of cowroot that made it.
    pub made_by: String,
    /// What it was made for.
    pub base: Identity,
    /// Layers in use, each number once.
    pub layers: Vec<LayerName>,
    /// What happened, oldest first.
    pub history: Vec<Event>,
}

/// Which base; `identity.rs` makes and compares it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Identity {
    /// Its size.
    pub size_bytes: u64,
    /// UUID of its file system or volume.
    pub uuid: Option<String>,
    /// Label of its file system or volume.
    pub label: Option<String>,
    /// Checksums of some chunks, ascending.
    pub samples: Vec<Sample>,
    /// CRC-32C of all of it, where somebody took the time.
    pub full: Option<u32>,
}

/// The checksum of a chunk of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Sample {
    /// Which.
    pub chunk: u64,
    /// CRC-32C of its bytes; fewer than 4096 where the base ends within it.
    pub crc: u32,
}

/// A layer as people know it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct LayerName {
    /// Its place in the superblock's table.
    pub number: u8,
    /// The session's name.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub made_s: u64,
    /// When it was sealed.
    pub sealed_s: Option<u64>,
}

/// Something that happened to the cowfile.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Event {
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// What.
    pub kind: EventKind,
    /// In words.
    pub text: String,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum EventKind {
    /// The cowfile was made.
    Made,
    /// It was opened for writing.
    Opened,
    /// A layer was sealed.
    Sealed,
    /// A layer was merged into the base.
    Merged,
    /// Something was repaired.
    Repaired,
    /// A layer was dropped, with all that was written to it.
    Dropped,
}

/// Why a description cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Made by another version of cowroot.
    Version(u16),
    /// Its checksum is right, but it is no archive of its version.
    NotAnArchive,
    /// Something in it is longer than it may be.
    TooLong(&'static str),
    /// It does not fit, even without history.
    NoRoom,
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(
                to,
                "its description is of version {version}, this cowroot reads {DESCRIPTION_VERSION}"
            ),
            Self::NotAnArchive => write!(to, "its description is not an archive"),
            Self::TooLong(what) => write!(to, "{what}: too long, or too many"),
            Self::NoRoom => write!(to, "its description does not fit behind the superblock"),
        }
    }
}

/// Bytes that a description may take.
#[must_use]
pub fn room(shape: Shape) -> usize {
    let zone = shape.offset_bytes(shape.zone_slots);
    usize::try_from(zone)
        .unwrap_or(usize::MAX)
        .saturating_sub(HEAD_LEN)
}

impl Description {
    /// As bytes of version 1, at most `room`. The oldest events go first where it is short.
    ///
    /// # Errors
    /// What is too long, or that it does not fit.
    pub fn encode(&self, room: usize) -> Result<Vec<u8>, Fault> {
        let mut kept = self.clone();
        kept.history
            .drain(..kept.history.len().saturating_sub(MOST_EVENTS));
        kept.check()?;
        loop {
            let bytes = rkyv::to_bytes::<ArchiveError>(&kept).map_err(|_| Fault::NotAnArchive)?;
            if bytes.len() <= room {
                return Ok(bytes.to_vec());
            }
            if kept.history.is_empty() {
                return Err(Fault::NoRoom);
            }
            kept.history.remove(0);
        }
    }

    /// What `bytes`, their checksum found right, hold.
    ///
    /// # Errors
    /// That this program cannot read them.
    pub fn decode(version: u16, bytes: &[u8]) -> Result<Self, Fault> {
        if version != DESCRIPTION_VERSION {
            return Err(Fault::Version(version));
        }
        // An archive is read in place, so it has to be where its numbers may be.
        let mut aligned: AlignedVec = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        let found = rkyv::from_bytes::<Self, ArchiveError>(&aligned);
        let found = found.map_err(|_| Fault::NotAnArchive)?;
        found.check()?;
        Ok(found)
    }

    fn check(&self) -> Result<(), Fault> {
        let short = |name: &str| name.len() <= LONGEST_NAME;
        let short_or_none = |name: &Option<String>| name.as_deref().is_none_or(short);
        let mut numbers = [false; MAX_LAYERS];
        let mut fresh = |layer: &LayerName| {
            let place = numbers.get_mut(usize::from(layer.number));
            place.is_some_and(|taken| !std::mem::replace(taken, true))
        };
        for (fine, what) in [
            (short(&self.name), "the cowfile's name"),
            (short(&self.made_by), "the version that made it"),
            (short_or_none(&self.base.uuid), "the base's UUID"),
            (short_or_none(&self.base.label), "the base's label"),
            (
                self.base.samples.len() <= MOST_SAMPLES,
                "the samples of the base",
            ),
            (
                self.layers.iter().all(&mut fresh),
                "the numbers of the layers",
            ),
            (
                self.layers.iter().all(|layer| short(&layer.name)),
                "a layer's name",
            ),
            (self.history.len() <= MOST_EVENTS, "the history"),
            (
                self.history
                    .iter()
                    .all(|event| event.text.len() <= LONGEST_TEXT),
                "an event's text",
            ),
        ] {
            if !fine {
                return Err(Fault::TooLong(what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `example` as rkyv writes it with the features that Cargo.toml names. Other features, or another
    /// rkyv, would write, and then not read, other bytes.
    const GOLDEN: &str = "\
        6120636f7766696c6520776974682061206e616d65316132622d336334640000010000000000000044332211\
        0000000003000000776f726bffffffff00000000050000000000000001000000000000000600000000000000\
        0900000000000000010000006576656e742039ff000000009500000090ffffff0605040302010000302e312e\
        30ffffff0020000000000000010000008900000081ffffff00000000000000000000000078ffffff01000000\
        010000000700000078ffffff0100000098ffffff01000000";

    fn event(at_s: u64) -> Event {
        Event {
            at_s,
            kind: EventKind::Opened,
            text: format!("event {at_s}"),
        }
    }

    fn example() -> Description {
        Description {
            name: "a cowfile with a name".into(),
            made_s: 0x0102_0304_0506,
            made_by: "0.1.0".into(),
            base: Identity {
                size_bytes: 8192,
                uuid: Some("1a2b-3c4d".into()),
                label: None,
                samples: vec![Sample {
                    chunk: 1,
                    crc: 0x1122_3344,
                }],
                full: Some(7),
            },
            layers: vec![LayerName {
                number: 3,
                name: "work".into(),
                made_s: 5,
                sealed_s: Some(6),
            }],
            history: vec![event(9)],
        }
    }

    #[test]
    fn an_archive_is_the_same_bytes_for_ever() {
        let bytes = example().encode(4096).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        assert_eq!(Description::decode(1, &bytes), Ok(example()));
        assert_eq!(Description::decode(2, &bytes), Err(Fault::Version(2)));
    }

    #[test]
    fn the_oldest_events_go_where_room_is_short() {
        let mut long = example();
        long.history = (0..1000).map(event).collect();
        let kept = |room| {
            Description::decode(1, &long.encode(room).unwrap())
                .unwrap()
                .history
        };
        assert_eq!(
            kept(room(Shape::PRODUCT)),
            long.history[1000 - MOST_EVENTS..]
        );
        let few = kept(1000);
        assert!(!few.is_empty() && few.len() < 100);
        assert_eq!(few, long.history[1000 - few.len()..]);
        assert_eq!(long.encode(64), Err(Fault::NoRoom));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        type Change = fn(&mut Description);
        let changes: [Change; 6] = [
            |it| it.name = "x".repeat(65),
            |it| it.base.label = Some("ü".repeat(33)),
            |it| it.base.samples = vec![it.base.samples[0]; 65],
            |it| it.layers[0].number = 64,
            |it| it.layers.push(it.layers[0].clone()),
            |it| it.history[0].text = "x".repeat(257),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut bad = example();
            change(&mut bad);
            assert!(
                matches!(bad.encode(1 << 20), Err(Fault::TooLong(_))),
                "change {at}"
            );
            let bytes = rkyv::to_bytes::<ArchiveError>(&bad).unwrap();
            let read = Description::decode(1, &bytes);
            assert!(matches!(read, Err(Fault::TooLong(_))), "change {at}, read");
        }
    }

    /// Most flips are accepted (the superblock's checksum is what refuses them); none panics.
    #[test]
    fn no_bytes_make_it_panic() {
        let good = example().encode(4096).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = Description::decode(1, &bytes);
        }
        for len in 0..good.len() {
            let _ = Description::decode(1, &good[..len]);
        }
        assert_eq!(Description::decode(1, &[]), Err(Fault::NotAnArchive));
    }
}
