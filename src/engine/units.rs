//! Units: the sizes cowroot is built on, and numbers that cannot be mistaken for one another.

/// Bytes of a chunk, the unit of copy-on-write.
pub const CHUNK_BYTES: u64 = 4096;

/// The same as the length of a buffer.
#[expect(clippy::cast_possible_truncation, reason = "4096 fits every usize")]
pub const CHUNK_LEN: usize = CHUNK_BYTES as usize;

/// Bytes of a sector, the unit of a block device's size. The kernel's, whatever the medium has.
pub const SECTOR_BYTES: u64 = 512;

/// A chunk of the device, counted from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkIndex(pub u64);

/// A place for one chunk's content in a cowfile, counted from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// Where the slot starts in its cowfile, in bytes.
    #[must_use]
    pub fn offset_bytes(self) -> u64 {
        u64::from(self.0) * CHUNK_BYTES
    }
}

/// A stretch of the device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

impl Extent {
    /// One past the last byte.
    #[must_use]
    pub fn end(self) -> u64 {
        self.offset + self.len
    }

    /// The chunks this touches, as first and one past the last.
    #[must_use]
    pub fn chunks(self) -> std::ops::Range<u64> {
        self.offset / CHUNK_BYTES..self.end().div_ceil(CHUNK_BYTES)
    }
}

/// Read a size as people write it: bytes, or with K, M, G or T (powers of 1024).
///
/// # Errors
/// A sentence naming what was given and what is expected.
pub fn parse_size_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a size; write bytes or a number with K, M, G or T");
    let (digits, shift) = match text.char_indices().last().ok_or_else(wrong)? {
        (at, 'K' | 'k') => (text.get(..at), 10),
        (at, 'M' | 'm') => (text.get(..at), 20),
        (at, 'G' | 'g') => (text.get(..at), 30),
        (at, 'T' | 't') => (text.get(..at), 40),
        _ => (Some(text), 0),
    };
    let digits = digits
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(wrong)?;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("'{text}' is larger than any device"))
}

/// How many slots the cowfile may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Slots in all.
    pub capacity: u32,
    /// Slots of these that only a file system's metadata may take, so that a full disk stays mounted.
    pub reserve: u32,
}

impl Limits {
    /// Slots that data may take before it is refused.
    #[must_use]
    pub fn for_data(&self) -> u32 {
        self.capacity - self.reserve.min(self.capacity)
    }

    /// How full a store with `used_slots` is for data, in percent: at 100 none is taken any more.
    #[must_use]
    pub fn percent_for_data(&self, used_slots: u32) -> u64 {
        let percent = (u64::from(used_slots) * 100).checked_div(self.for_data().into());
        percent.unwrap_or(100).min(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("4K", 4096),
            ("3m", 3 << 20),
            ("2G", 2 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse_size_bytes(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "K",
            "-1",
            "+1",
            "1.5G",
            "1Q",
            "99999999999999999999",
            "99999999T",
            "1 G",
            "é",
        ] {
            assert!(parse_size_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_extent_touches_every_chunk_it_shares_a_byte_with() {
        assert_eq!(
            Extent {
                offset: 4095,
                len: 2
            }
            .chunks(),
            0..2
        );
        assert_eq!(
            Extent {
                offset: 4096,
                len: 4096
            }
            .chunks(),
            1..2
        );
    }
}
