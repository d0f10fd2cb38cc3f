//! Which base a cowfile was made for: its size, its names, and checksums of some of its chunks.
//!
//! CRC-32C is enough: nobody forges a base against its own cowfile, and two bases that differ in k of the
//! samples pass for one another once in 2^(32k). What it does not find is a change between samples;
//! that is what the full checksum is for.

use std::fmt;

use super::format::description::{Identity, MOST_SAMPLES, Sample};
use super::format::page;
use super::units::CHUNK_BYTES;

/// Which chunks of a base of this size are samples: ascending, for a CD seeks slowly; the first and the
/// last, and others in between that differ from cowfile to cowfile.
#[must_use]
pub fn chunks_to_sample(store: [u8; 16], size_bytes: u64) -> Vec<u64> {
    let chunks = size_bytes.div_ceil(CHUNK_BYTES);
    let most = MOST_SAMPLES as u64;
    if chunks <= most {
        return (0..chunks).collect();
    }
    // One in each of as many equal stretches as there are samples between first and last.
    let (inner, stretches) = (u128::from(chunks - 2), u128::from(most - 2));
    let seed = u128::from_le_bytes(store);
    let mut samples = vec![0];
    for stretch in 0..stretches {
        let start = 1 + inner * stretch / stretches;
        let end = 1 + inner * (stretch + 1) / stretches;
        let chunk = start + u128::from(scatter(seed, stretch)) % (end - start);
        samples.extend(u64::try_from(chunk));
    }
    samples.push(chunks - 1);
    samples
}

/// A number that depends on every bit of both (splitmix64).
fn scatter(seed: u128, number: u128) -> u64 {
    let halves = seed.to_le_bytes();
    let [low, high] = [0, 8].map(|at| {
        let half = halves.get(at..at + 8).and_then(|half| half.first_chunk());
        u64::from_le_bytes(half.copied().unwrap_or_default())
    });
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    let mix = |word: u64| {
        let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    };
    mix(mix(low) ^ mix(high).rotate_left(1) ^ mix(number))
}

/// A chunk's sample. `bytes` are the chunk's, as far as the base goes.
#[must_use]
pub fn sample(chunk: u64, bytes: &[u8]) -> Sample {
    Sample {
        chunk,
        crc: page::checksum(bytes),
    }
}

/// What differs between the base that is wanted and the one that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Bytes wanted and found.
    pub size_bytes: Option<(u64, u64)>,
    /// UUIDs wanted and found.
    pub uuid: Option<(Option<String>, Option<String>)>,
    /// Labels wanted and found.
    pub label: Option<(Option<String>, Option<String>)>,
    /// How many samples differ, of how many.
    pub samples: Option<(usize, usize)>,
    /// Both have a full checksum, and these differ.
    pub full: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some((wanted, found)) = self.size_bytes {
            parts.push(format!("its size is {found} bytes, not {wanted}"));
        }
        for (what, names) in [("UUID", &self.uuid), ("label", &self.label)] {
            if let Some((wanted, found)) = names {
                let name = |name: &Option<String>| match name {
                    Some(name) => format!("'{name}'"),
                    None => "none".to_owned(),
                };
                parts.push(format!(
                    "its {what} is {}, not {}",
                    name(found),
                    name(wanted)
                ));
            }
        }
        if let Some((differ, of)) = self.samples {
            parts.push(format!("{differ} of {of} sampled chunks differ"));
        }
        if self.full {
            parts.push("its full checksum differs".to_owned());
        }
        to.write_str(&parts.join("; "))
    }
}

/// Compare the base that is there with the one that the cowfile was made for.
///
/// `covered` is given while a merge is under way: the chunks that the merged session covers may be old or
/// new, so these samples do not count; nor do the names and the full checksum, for the session may have
/// changed what they are read from. Where no sample is left (`cowroot check --drop-damaged` may have to drop them) the names
/// are better than nothing.
///
/// # Errors
/// What differs.
pub fn compare(
    wanted: &Identity,
    found: &Identity,
    covered: Option<&dyn Fn(u64) -> bool>,
) -> Result<(), Box<Difference>> {
    let mut difference = Difference::default();
    if wanted.size_bytes != found.size_bytes {
        // Then the samples are others too, and say nothing.
        difference.size_bytes = Some((wanted.size_bytes, found.size_bytes));
    } else {
        difference.samples = samples(wanted, found, covered);
    }
    if covered.is_none() || wanted.samples.is_empty() {
        let names = |wanted: &Option<String>, found: &Option<String>| {
            (wanted != found).then(|| (wanted.clone(), found.clone()))
        };
        difference.uuid = names(&wanted.uuid, &found.uuid);
        difference.label = names(&wanted.label, &found.label);
        let both = wanted.full.zip(found.full);
        difference.full = both.is_some_and(|(wanted, found)| wanted != found);
    }
    if difference == Difference::default() {
        return Ok(());
    }
    Err(Box::new(difference))
}

fn samples(
    wanted: &Identity,
    found: &Identity,
    covered: Option<&dyn Fn(u64) -> bool>,
) -> Option<(usize, usize)> {
    let counts = |sample: &&Sample| !covered.is_some_and(|covered| covered(sample.chunk));
    let wanted: Vec<&Sample> = wanted.samples.iter().filter(counts).collect();
    // One that was not read is as bad as one that differs.
    let differ = wanted
        .iter()
        .filter(|sample| !found.samples.contains(sample))
        .count();
    (differ > 0).then_some((differ, wanted.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(size_bytes: u64) -> Identity {
        let chunks = chunks_to_sample([3; 16], size_bytes);
        Identity {
            size_bytes,
            uuid: Some("2026-01-01".into()),
            label: Some("LIVE".into()),
            samples: chunks
                .iter()
                .map(|&chunk| sample(chunk, &chunk.to_le_bytes()))
                .collect(),
            full: None,
        }
    }

    #[test]
    fn samples_ascend_from_the_first_chunk_to_the_last() {
        for size in [
            1,
            4096,
            4097,
            64 << 12,
            (64 << 12) + 1,
            66 << 12,
            4_400_000_000,
            u64::MAX,
        ] {
            for store in [[0; 16], [7; 16], [255; 16]] {
                let chunks = chunks_to_sample(store, size);
                let all = size.div_ceil(4096);
                assert_eq!(chunks.len() as u64, all.min(64), "{size} bytes");
                assert!(chunks.is_sorted_by(|one, next| one < next), "{size} bytes");
                assert_eq!(
                    (chunks[0], *chunks.last().unwrap()),
                    (0, all - 1),
                    "{size} bytes"
                );
                assert_eq!(chunks, chunks_to_sample(store, size), "the same every time");
            }
        }
        assert!(chunks_to_sample([0; 16], 0).is_empty());
        let (mut one, other) = ([0; 16], chunks_to_sample([0; 16], 1 << 33));
        one[15] = 1;
        assert_ne!(
            chunks_to_sample(one, 1 << 33),
            other,
            "every byte of the UUID counts"
        );
    }

    /// Cowfiles carry what these chunks were: another choice would refuse every base.
    #[test]
    fn the_choice_is_the_same_for_ever() {
        let store = *b"0123456789abcdef";
        assert_eq!(
            chunks_to_sample(store, 1 << 30)[..6],
            [0, 748, 7594, 12450, 14955, 18926]
        );
    }

    #[test]
    fn what_differs_is_said() {
        let wanted = base(1 << 30);
        assert_eq!(compare(&wanted, &wanted, None), Ok(()));
        let says = |found: &Identity| compare(&wanted, found, None).unwrap_err().to_string();
        assert_eq!(
            says(&Identity {
                size_bytes: 5,
                ..wanted.clone()
            }),
            "its size is 5 bytes, not 1073741824"
        );
        let mut found = wanted.clone();
        (found.uuid, found.label) = (None, Some("OTHER".into()));
        found.samples[63].crc ^= 1;
        found.samples.remove(5);
        assert_eq!(
            says(&found),
            "its UUID is none, not '2026-01-01'; its label is 'OTHER', not 'LIVE'; 2 of 64 sampled chunks differ"
        );
        let full = |crc| Identity {
            full: Some(crc),
            ..wanted.clone()
        };
        assert!(compare(&full(1), &full(2), None).unwrap_err().full);
        assert_eq!(
            compare(&full(1), &wanted, None),
            Ok(()),
            "nobody took the time"
        );
    }

    #[test]
    fn while_merging_only_what_the_session_does_not_cover_counts() {
        let wanted = base(1 << 30);
        let mut found = wanted.clone();
        found.samples[0].crc ^= 1;
        found.label = None;
        assert_eq!(compare(&wanted, &found, Some(&|chunk| chunk == 0)), Ok(()));
        let difference = compare(&wanted, &found, Some(&|chunk| chunk == 1 << 17)).unwrap_err();
        assert_eq!(difference.samples, Some((1, 64)));
        found.samples[9].crc ^= 1;
        let difference = compare(&wanted, &found, Some(&|chunk| chunk == 0)).unwrap_err();
        assert_eq!(difference.samples, Some((1, 63)));
    }
}
