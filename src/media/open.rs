//! Bases and cowfiles by their words: what `--cow tmpfs:50%` and `cowroot.cow=` mean.

use std::path::PathBuf;
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
    /// A persistent cowfile: a file with its siblings, or a block device.
    File(PathBuf),
}

/// When what is written becomes durable, at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When somebody asks for it with a flush (sync, fsync); what nobody asks for, soon.
    Flush,
    /// After so many seconds, whatever somebody asks for.
    Interval(u32),
    /// When the device is detached, or memory for what is not durable runs out.
    Shutdown,
}

impl FromStr for CowStore {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = match text
            .strip_prefix("tmpfs")
            .map(|rest| rest.split_at_checked(1))
        {
            Some(None) => TmpfsSize::Percent(50),
            Some(Some((":", size))) => size.parse()?,
            _ if text.is_empty() => {
                return Err("name a cow store: tmpfs[:SIZE|:PERCENT%], or a cowfile".into());
            }
            _ => return Ok(Self::File(text.into())),
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
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("interval:").map(str::parse)) {
            ("flush", _) => Ok(Self::Flush),
            ("shutdown", _) => Ok(Self::Shutdown),
            (_, Some(Ok(seconds @ 1..=86_400))) => Ok(Self::Interval(seconds)),
            _ => Err(format!(
                "'{text}' is no durability; use flush, interval:SECONDS (1 to 86400) or shutdown"
            )),
        }
    }
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flush => write!(f, "flush"),
            Self::Interval(seconds) => write!(f, "interval:{seconds}"),
            Self::Shutdown => write!(f, "shutdown"),
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
        for text in ["", "tmpfs:", "tmpfs:0", "tmpfs:0%", "tmpfs:101%", "tmpfs:x"] {
            assert!(text.parse::<CowStore>().is_err(), "{text}");
        }
        for text in ["/dev/sda1", "a.cow", "tmpfsx", "./tmpfs"] {
            assert_eq!(text.parse(), Ok(CowStore::File(text.into())));
        }
    }

    #[test]
    fn durability_is_read_and_written_alike() {
        for (text, durability) in [
            ("flush", Durability::Flush),
            ("interval:30", Durability::Interval(30)),
            ("shutdown", Durability::Shutdown),
        ] {
            assert_eq!(text.parse(), Ok(durability));
            assert_eq!(durability.to_string(), text);
        }
        for text in [
            "",
            "interval",
            "interval:",
            "interval:0",
            "interval:1s",
            "never",
        ] {
            assert!(text.parse::<Durability>().is_err(), "{text}");
        }
    }
}
