//! What base and cowfile must read as together, and which base a cowfile takes for its own.

use super::disk::Bytes;
use super::world::STORE;
use crate::engine::cowfile::offline::{Content, Offline};
use crate::engine::cowfile::recover::{Medium, Recovered, recover};
use crate::engine::format::Shape;
use crate::engine::format::description::{Description, Identity, LayerName};
use crate::engine::format::superblock::{DESCRIPTION_VERSION, MergeState};
use crate::engine::identity::{chunks_to_sample, compare, sample};
use crate::engine::merge;
use crate::engine::units::CHUNK_BYTES;

pub(super) fn identify(base: &[u8], size_bytes: u64) -> Identity {
    let chunks = chunks_to_sample(STORE, size_bytes);
    let sampled = chunks.into_iter().map(|chunk| {
        let start = usize::try_from(chunk * CHUNK_BYTES).unwrap();
        let end = usize::try_from(((chunk + 1) * CHUNK_BYTES).min(size_bytes)).unwrap();
        sample(
            chunk,
            base.get(start..end.min(base.len())).unwrap_or_default(),
        )
    });
    Identity {
        size_bytes,
        samples: sampled.collect(),
        ..Identity::default()
    }
}

pub(super) fn describe(base: &[u8]) -> Vec<u8> {
    Description {
        name: "some".into(),
        made_s: 1,
        made_by: "0".into(),
        base: identify(base, base.len() as u64),
        layers: vec![LayerName {
            number: 0,
            name: "main".into(),
            made_s: 1,
            sealed_s: None,
        }],
        history: Vec::new(),
    }
    .encode(1 << 20)
    .unwrap()
}

/// All that base and session read as.
fn contents(shape: Shape, cow: &[u8], base: &[u8], found: &Recovered) -> Result<Vec<u8>, String> {
    let mut medium = Bytes(shape, cow);
    let mut offline = Offline::new(found.clone());
    let superblock = &found.superblock;
    // The device reads as zeros behind its base, whatever the file has there.
    let base_bytes = usize::try_from(superblock.base_bytes)
        .unwrap()
        .min(base.len());
    let mut all = base[..base_bytes].to_vec();
    let len = shape.chunk_len();
    let device_bytes = usize::try_from(superblock.device_bytes).unwrap();
    all.resize(device_bytes.next_multiple_of(len), 0);
    let mut bytes = vec![0; len];
    for (chunk, place) in (0..superblock.chunks()).zip(all.chunks_mut(len)) {
        match offline.read(&mut medium, chunk, &mut bytes) {
            Ok(Content::Absent) => {}
            Ok(Content::Zero) => place.fill(0),
            Ok(Content::Read) => place.copy_from_slice(&bytes),
            Err(trouble) => return Err(format!("chunk {chunk}: {trouble:?}")),
        }
    }
    all.truncate(device_bytes);
    Ok(all)
}

pub(super) fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    if one.len() != other.len() {
        return Some(one.len().min(other.len()));
    }
    one.iter().zip(other).position(|(one, other)| one != other)
}

/// The cowfile opens, takes the base for its own, and both read as they should.
pub(super) fn check(
    shape: Shape,
    cow: &[u8],
    base: &[u8],
    device: &[u8],
) -> Result<Recovered, String> {
    let mut medium = Bytes(shape, cow);
    let found =
        recover(&mut medium, shape, None).map_err(|trouble| format!("open: {trouble:?}"))?;
    accepts(&mut medium, &found, base)?;
    let all = contents(shape, cow, base, &found)?;
    match first_difference(&all, device) {
        None => Ok(found),
        Some(at) => Err(format!("base and session differ at byte {at}")),
    }
}

/// As an open for serving looks whether the base is the right one.
fn accepts(medium: &mut impl Medium, found: &Recovered, base: &[u8]) -> Result<(), String> {
    let superblock = &found.superblock;
    let wanted = Description::decode(DESCRIPTION_VERSION, &superblock.description).unwrap();
    let under_way = superblock.merge.state == MergeState::UnderWay;
    let there_bytes = base.len() as u64;
    let size_bytes = match under_way && there_bytes == superblock.device_bytes {
        true => wanted.base.size_bytes,
        false => there_bytes,
    };
    let there = identify(base, size_bytes);
    // A file system that was made larger, in a base that is not, looks like half a copy: who boots it refuses it.
    let is_touched = under_way && there_bytes >= superblock.device_bytes;
    let covered = match is_touched {
        true => {
            let chunks: Vec<u64> = there.samples.iter().map(|sample| sample.chunk).collect();
            merge::covered(medium, found, &chunks).unwrap()
        }
        false => Vec::new(),
    };
    let is_covered = |chunk: u64| covered.contains(&chunk);
    let covers: Option<&dyn Fn(u64) -> bool> = is_touched.then_some(&is_covered);
    compare(&wanted.base, &there, covers)
        .map_err(|difference| format!("another base: {difference}"))
}
