//! Bases and cowfiles by their words: what `--cow tmpfs:50%` and `cowroot.cow=` mean.

use std::str::FromStr;

use crate::engine::units::parse_size_bytes;

/// How much of the machine's RAM a tmpfs cowfile may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TmpfsSize {
    /// This many bytes.
    Bytes(u64),
    /// This share of all RAM, 1 to 100.
    Percent(u8),
}

/// What takes the writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CowStore {
    /// A file in a tmpfs of its own: gone with the machine.
    Tmpfs(TmpfsSize),
}

impl FromStr for CowStore {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("tmpfs") else {
            return Err(format!(
                "a cowfile on a medium ('{text}') is not available in this version; use tmpfs[:SIZE|:PERCENT%]"
            ));
        };
        let size = match rest.strip_prefix(':') {
            None if rest.is_empty() => TmpfsSize::Percent(50),
            None => {
                return Err(format!(
                    "'{text}' is not a cow store; use tmpfs[:SIZE|:PERCENT%]"
                ));
            }
            Some(size) => size.parse()?,
        };
        Ok(Self::Tmpfs(size))
    }
}

impl FromStr for TmpfsSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(percent) = text.strip_suffix('%') else {
            return match parse_size_bytes(text)? {
                0 => Err(
                    "a tmpfs of size 0 would have no limit; name a size or a share like 50%".into(),
                ),
                bytes => Ok(Self::Bytes(bytes)),
            };
        };
        match percent.parse() {
            Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
            _ => Err(format!("'{text}' is not a share of RAM; use 1% to 100%")),
        }
    }
}

impl std::fmt::Display for CowStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tmpfs(TmpfsSize::Bytes(bytes)) => write!(f, "tmpfs:{bytes}"),
            Self::Tmpfs(TmpfsSize::Percent(percent)) => write!(f, "tmpfs:{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cow_words_are_read_and_written_alike() {
        for (text, size) in [
            ("tmpfs", TmpfsSize::Percent(50)),
            ("tmpfs:75%", TmpfsSize::Percent(75)),
            ("tmpfs:64M", TmpfsSize::Bytes(64 << 20)),
        ] {
            let store: CowStore = text.parse().unwrap();
            assert_eq!(store, CowStore::Tmpfs(size), "{text}");
            assert_eq!(store.to_string().parse(), Ok(store), "{text}");
        }
        for text in [
            "",
            "tmpfs:",
            "tmpfs:0",
            "tmpfs:0%",
            "tmpfs:101%",
            "tmpfs:x",
            "tmpfsx",
            "/dev/sda1",
            "UUID=1:/a,create",
        ] {
            assert!(text.parse::<CowStore>().is_err(), "{text}");
        }
    }
}
