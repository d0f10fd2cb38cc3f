//! What a cowfile on a medium is called on the kernel command line.

use std::fmt;
use std::str::FromStr;

use super::source::{Base, Source};
use crate::engine::units::parse_size_bytes;

/// A cowfile by its words: `<medium>:<path>[,create[=<size>]]`, or `<medium>[,create[=<size>]]` where all of a
/// partition or disk is the cowfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CowSource {
    /// The medium.
    pub medium: Source,
    /// The file's absolute path on it; none if all of it is the cowfile.
    pub path: Option<String>,
    /// Whether it is made where it is not there.
    pub create: Option<Create>,
}

/// How a cowfile is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Create {
    /// How large it may become, in bytes.
    pub max_bytes: Option<u64>,
}

/// What a boot does where the cowfile, or its medium, is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// It fails.
    Fail,
    /// It goes on with a session in RAM, and says so wherever somebody could look.
    Tmpfs,
}

impl FromStr for Fallback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fail" => Ok(Self::Fail),
            "tmpfs" => Ok(Self::Tmpfs),
            _ => Err(format!("'{text}' is no fallback; use fail or tmpfs")),
        }
    }
}

const CREATE: &str = ",create";

impl FromStr for CowSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, create) = match text.rsplit_once(CREATE) {
            Some((place, "")) => (place, Some(Create { max_bytes: None })),
            Some((place, size)) if size.starts_with('=') => {
                let max_bytes = Some(parse_size_bytes(&size[1..])?);
                (place, Some(Create { max_bytes }))
            }
            _ => (text, None),
        };
        let Base { medium, mut path } = place.parse()?;
        if matches!(medium, Source::Nfs(_)) {
            return Err(format!(
                "a cowfile on NFS ('{place}') is not available in this version; name a medium of this machine"
            ));
        }
        let file = path.pop();
        if !path.is_empty() {
            return Err(format!(
                "'{place}' leads into an image; a cowfile lies in a file system that can be written"
            ));
        }
        Ok(Self {
            medium,
            path: file,
            create,
        })
    }
}

impl fmt::Display for CowSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.medium)?;
        if let Some(path) = &self.path {
            write!(f, ":{path}")?;
        }
        match self.create {
            None => Ok(()),
            Some(Create { max_bytes: None }) => f.write_str(CREATE),
            Some(Create {
                max_bytes: Some(bytes),
            }) => write!(f, "{CREATE}={bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cowfile_is_named_by_its_medium_its_path_and_whether_to_make_it() {
        for (text, path, create) in [
            ("UUID=1A2B-3C4D:/a/b.cow", Some("/a/b.cow"), None),
            ("LABEL=STICK:/a,create", Some("/a"), Some(None)),
            ("LABEL=S:/a,create=8G", Some("/a"), Some(Some(8 << 30))),
            ("/dev/sda2", None, None),
            ("PARTLABEL=cow,create", None, Some(None)),
            ("LABEL=S:/x,created", Some("/x,created"), None),
        ] {
            let source: CowSource = text.parse().unwrap();
            assert_eq!(source.path.as_deref(), path, "{text}");
            let made = source.create.map(|create| create.max_bytes);
            assert_eq!(made, create, "{text}");
            assert_eq!(source.to_string().parse(), Ok(source), "{text}");
        }
        for text in [
            "",
            "session.cow",
            "LABEL=X:/a!/b",
            "LABEL=X:/a,create=much",
            "LABEL=X:/../a",
        ] {
            assert!(text.parse::<CowSource>().is_err(), "{text}");
        }
    }
}
