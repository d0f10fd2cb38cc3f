//! The words for a session: which one, and what it may be called.

use std::str::FromStr;

use super::BASE;
use crate::engine::format::description::LONGEST_NAME;

/// Which session takes the writes of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// The one of this name, or the one that did last.
    Resume(Option<String>),
    /// A new one of this name on the one that did last.
    New(Option<String>),
    /// One in RAM over the one that did last, which stays as it is.
    Throwaway,
}

impl FromStr for Wish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, name) = match text.split_once(':') {
            Some((word, name)) => (word, Some(valid(name)?.to_owned())),
            None => (text, None),
        };
        match (word, name) {
            ("resume", name) => Ok(Self::Resume(name)),
            ("new", name) => Ok(Self::New(name)),
            ("throwaway", None) => Ok(Self::Throwaway),
            _ => Err(format!(
                "'{text}' is no session; use resume[:NAME], new[:NAME] or throwaway"
            )),
        }
    }
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, name) = match self {
            Self::Resume(name) => ("resume", name.as_deref()),
            Self::New(name) => ("new", name.as_deref()),
            Self::Throwaway => ("throwaway", None),
        };
        match name {
            Some(name) => write!(f, "{word}:{name}"),
            None => f.write_str(word),
        }
    }
}

/// A name that a session may have.
///
/// # Errors
/// Why it may not.
pub fn valid(name: &str) -> Result<&str, String> {
    let why = match name {
        "" => "it is empty",
        BASE => "that is what the base is called",
        _ if name.len() > LONGEST_NAME => "it is longer than 64 bytes",
        _ if name.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            "there is a space or a control character in it"
        }
        _ => return Ok(name),
    };
    Err(format!("'{name}' cannot be a session's name: {why}"))
}
