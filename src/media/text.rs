//! Names and numbers of a medium, spelled as blkid spells them.

/// Read-only access at any offset: a block device, a file, or bytes in a test.
pub trait ReadAt {
    /// Fill `buffer` from `offset`; `None` if that is beyond the end or cannot be read.
    fn fill(&self, buffer: &mut [u8], offset: u64) -> Option<()>;
}

impl dyn ReadAt + '_ {
    /// `N` bytes at `offset`.
    pub fn bytes<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, offset)?;
        Some(bytes)
    }

    /// A little-endian 16-bit number at `offset`.
    pub fn le16(&self, offset: u64) -> Option<u16> {
        self.bytes(offset).map(u16::from_le_bytes)
    }

    /// A little-endian 32-bit number at `offset`.
    pub fn le32(&self, offset: u64) -> Option<u32> {
        self.bytes(offset).map(u32::from_le_bytes)
    }

    /// A little-endian 64-bit number at `offset`.
    pub fn le64(&self, offset: u64) -> Option<u64> {
        self.bytes(offset).map(u64::from_le_bytes)
    }
}

impl ReadAt for std::fs::File {
    fn fill(&self, buffer: &mut [u8], offset: u64) -> Option<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset).ok()
    }
}

impl ReadAt for Vec<u8> {
    fn fill(&self, buffer: &mut [u8], offset: u64) -> Option<()> {
        let start = usize::try_from(offset).ok()?;
        let bytes = self.get(start..start.checked_add(buffer.len())?)?;
        buffer.copy_from_slice(bytes);
        Some(())
    }
}

/// A name in a fixed field: up to the first NUL, without trailing blanks; `None` if nothing is left.
#[must_use]
pub fn name(field: &[u8]) -> Option<String> {
    let name = field.split(|&byte| byte == 0).next()?;
    printable(&String::from_utf8_lossy(name))
}

/// A name in a fixed field of UTF-16, little-endian.
#[must_use]
pub fn name_utf16(field: &[u8]) -> Option<String> {
    let (pairs, _) = field.as_chunks::<2>();
    let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    let units: Vec<u16> = units.take_while(|&unit| unit != 0).collect();
    printable(&String::from_utf16_lossy(&units))
}

/// Without what would drive a terminal or forge a line of a log; `None` if nothing is left.
fn printable(name: &str) -> Option<String> {
    let name = name.trim_end().replace(char::is_control, "?");
    (!name.is_empty()).then_some(name)
}

/// A UUID as 8-4-4-4-12 lower-case digits; `None` if all zero, which means "has none".
#[must_use]
pub fn uuid(bytes: [u8; 16]) -> Option<String> {
    if bytes == [0; 16] {
        return None;
    }
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Some(text)
}

/// A GUID of GPT: the first three groups are stored little-endian.
#[must_use]
pub fn guid(bytes: [u8; 16]) -> Option<String> {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    let [i, j, k, l, m, n, o, p] = rest;
    uuid([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
}

/// A size for people: `512 bytes`, `3.5 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.iter().find(|(_, shift)| bytes >> shift > 0);
    let Some((unit, shift)) = unit else {
        return format!("{bytes} bytes");
    };
    let whole = bytes >> shift;
    let tenth = ((bytes & ((1 << shift) - 1)) * 10) >> shift;
    if tenth == 0 || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenth} {unit}")
    }
}

/// A day and time of UTC; days to dates as Howard Hinnant has it.
#[must_use]
pub fn date(at_s: u64) -> String {
    let (days, second) = (at_s / 86_400 + 719_468, at_s % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02} UTC")
}

/// The same to the second.
#[must_use]
pub fn time(at_s: u64) -> String {
    let seconds = format!(":{:02} UTC", at_s % 60);
    date(at_s).replace(" UTC", &seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(1_700_000_000), "2023-11-14 22:13 UTC");
        assert_eq!(date(1_709_164_800), "2024-02-29 00:00 UTC");
        assert_eq!(time(1_700_000_000), "2023-11-14 22:13:20 UTC");
    }

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (700 << 20, "700 MiB"),
            ((2 << 30) + (300 << 20), "2.2 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_guid_is_spelled_with_its_first_groups_turned() {
        let bytes = std::array::from_fn(|at| u8::try_from(at).unwrap());
        assert_eq!(
            guid(bytes).as_deref(),
            Some("03020100-0504-0706-0809-0a0b0c0d0e0f")
        );
        assert_eq!(guid([0; 16]), None);
    }

    #[test]
    fn a_read_past_the_end_finds_nothing() {
        let bytes: &dyn ReadAt = &vec![1, 2, 3, 4];
        assert_eq!(bytes.le16(2), Some(0x0403));
        assert_eq!(bytes.le16(3), None);
        assert_eq!(bytes.le32(u64::MAX), None);
    }
}
