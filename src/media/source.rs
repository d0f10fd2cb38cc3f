//! What a base is called on the command line: which medium, and which path on it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How a medium is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The file system's name.
    Label(String),
    /// The file system's UUID.
    Uuid(String),
    /// The partition's UUID.
    PartUuid(String),
    /// The partition's name in a GPT.
    PartLabel(String),
    /// A device node.
    Device(PathBuf),
    /// What a server exports.
    Nfs(Share),
}

/// What an NFS server exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The server. Never a name: an initramfs has nobody to ask for its address.
    pub server: IpAddr,
    /// The exported folder, as the server calls it.
    pub export: String,
}

/// A base by its words: a medium, and where on it the base lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The medium.
    pub medium: Source,
    /// Absolute paths: each but the last is a file-system image that holds the next.
    /// Empty if the whole partition or disk is the base.
    pub path: Vec<String>,
}

/// A tag, udev's folder of links for it, and what it makes of a name.
type Tag = (&'static str, &'static str, fn(String) -> Source);

const TAGS: [Tag; 4] = [
    ("LABEL", "/dev/disk/by-label/", Source::Label),
    ("UUID", "/dev/disk/by-uuid/", Source::Uuid),
    ("PARTUUID", "/dev/disk/by-partuuid/", Source::PartUuid),
    ("PARTLABEL", "/dev/disk/by-partlabel/", Source::PartLabel),
];

const FORMS: &str = "use LABEL=, UUID=, PARTUUID=, PARTLABEL= or /dev/NAME, each with :/path or alone, \
                     or nfs:ADDRESS:/EXPORT:/path";

/// How a base on NFS begins.
const NFS: &str = "nfs:";

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(share) = text.strip_prefix(NFS) {
            return share.parse().map(Self::Nfs);
        }
        // Without udev there are no links in /dev/disk: they mean the same as a tag.
        let tagged = TAGS.iter().find_map(|(tag, folder, make)| {
            let value = text
                .strip_prefix(tag)
                .and_then(|rest| rest.strip_prefix('='))
                .or_else(|| text.strip_prefix(folder))?;
            Some((make, unescape(value)))
        });
        match tagged {
            Some((_, value)) if value.is_empty() => Err(format!("'{text}' names nothing")),
            Some((make, value)) => Ok(make(value)),
            None if text.starts_with("/dev/") && text.len() > 5 => Ok(Self::Device(text.into())),
            None => Err(format!("'{text}' does not name a medium; {FORMS}")),
        }
    }
}

/// `\x20` means a blank, as in /etc/fstab's tags and udev's links.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'\\', b'x', a, b, tail @ ..] => std::str::from_utf8(&[*a, *b])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .map(|byte| (byte, tail)),
            _ => None,
        };
        let (byte, tail) = escaped.unwrap_or((*first, tail));
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl FromStr for Base {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(colon) = before_path(text)? else {
            let medium = text.parse()?;
            return Ok(Self {
                medium,
                path: Vec::new(),
            });
        };
        let (medium, path) = text.split_at(colon);
        let path: Vec<String> = path
            .trim_start_matches(':')
            .split('!')
            .map(str::to_owned)
            .collect();
        for part in &path {
            let clean = part.starts_with('/')
                && part.len() > 1
                && !Path::new(part)
                    .components()
                    .any(|part| part.as_os_str() == "..");
            if !clean {
                return Err(format!(
                    "'{part}' in '{text}' must be an absolute path, without '..'"
                ));
            }
        }
        Ok(Self {
            medium: medium.parse()?,
            path,
        })
    }
}

/// Where the path in a base's words begins, with a colon, if there is one.
fn before_path(text: &str) -> Result<Option<usize>, String> {
    let Some(share) = text.strip_prefix(NFS) else {
        return Ok(text.find(":/"));
    };
    let (_, export) = split_server(share)?;
    // Behind the export's own slash.
    let path = export.get(1..).and_then(|export| export.find(":/"));
    match path {
        Some(path) => Ok(Some(text.len() - export.len() + 1 + path)),
        None => Err(format!(
            "'{text}' names no file on the server; write nfs:ADDRESS:/EXPORT:/path, e.g. \
             nfs:192.0.2.1:/export:/images/root.img"
        )),
    }
}

/// The server and the rest, which begins with a slash, of `ADDRESS:/EXPORT...`; an IPv6 address is in brackets.
fn split_server(share: &str) -> Result<(IpAddr, &str), String> {
    let bracketed = share.strip_prefix('[').and_then(|v6| v6.split_once("]:"));
    let split = bracketed.or_else(|| {
        share
            .split_once(":/")
            .map(|(server, _)| (server, share.get(server.len() + 1..).unwrap_or_default()))
    });
    let Some((server, rest)) = split.filter(|(_, rest)| rest.starts_with('/')) else {
        return Err(format!(
            "'{NFS}{share}' names no export; write nfs:ADDRESS:/EXPORT:/path, an IPv6 address in brackets"
        ));
    };
    let address = match bracketed {
        Some(_) => server.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => server.parse::<Ipv4Addr>().map(IpAddr::V4),
    };
    match address {
        Ok(address) => Ok((address, rest)),
        Err(_) => Err(format!(
            "'{server}' in '{NFS}{share}' is no IP address, and there is no DNS in an initramfs; write the server's \
             address, an IPv6 one in brackets: nfs:192.0.2.1:... or nfs:[2001:db8::1]:..."
        )),
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (server, export) = split_server(text)?;
        let export = export.to_owned();
        Ok(Self { server, export })
    }
}

impl fmt::Display for Share {
    /// As the kernel takes it, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server {
            IpAddr::V4(server) => write!(f, "{server}:{}", self.export),
            IpAddr::V6(server) => write!(f, "[{server}]:{}", self.export),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(value) => write!(f, "LABEL={value}"),
            Self::Uuid(value) => write!(f, "UUID={value}"),
            Self::PartUuid(value) => write!(f, "PARTUUID={value}"),
            Self::PartLabel(value) => write!(f, "PARTLABEL={value}"),
            Self::Device(path) => path.display().fmt(f),
            Self::Nfs(share) => write!(f, "{NFS}{share}"),
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.medium.fmt(f)?;
        if self.path.is_empty() {
            return Ok(());
        }
        write!(f, ":{}", self.path.join("!"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_medium_and_a_path_through_images() {
        let label = |text: &str| Source::Label(text.into());
        let share = |server: &str, export: &str| {
            Source::Nfs(Share {
                server: server.parse().unwrap(),
                export: export.into(),
            })
        };
        for (text, medium, path) in [
            (
                "LABEL=LIVE:/live/root.img",
                label("LIVE"),
                vec!["/live/root.img"],
            ),
            ("LABEL=a:b:/c", label("a:b"), vec!["/c"]),
            ("LABEL=MY\\x20DISK:/c", label("MY DISK"), vec!["/c"]),
            ("LABEL=odd\\xzz", label("odd\\xzz"), vec![]),
            (
                "LABEL=X:/LiveOS/squashfs.img!/LiveOS/rootfs.img",
                label("X"),
                vec!["/LiveOS/squashfs.img", "/LiveOS/rootfs.img"],
            ),
            ("/dev/sr0:/r", Source::Device("/dev/sr0".into()), vec!["/r"]),
            ("/dev/vda2", Source::Device("/dev/vda2".into()), vec![]),
            ("/dev/disk/by-label/L", label("L"), vec![]),
            (
                "/dev/disk/by-path/pci-0000:00:1f.2:/r",
                Source::Device("/dev/disk/by-path/pci-0000:00:1f.2".into()),
                vec!["/r"],
            ),
            ("PARTUUID=1-02", Source::PartUuid("1-02".into()), vec![]),
            ("PARTLABEL=p", Source::PartLabel("p".into()), vec![]),
            ("UUID=1A2B-3C4D", Source::Uuid("1A2B-3C4D".into()), vec![]),
            (
                "nfs:192.0.2.1:/export:/images/root.img",
                share("192.0.2.1", "/export"),
                vec!["/images/root.img"],
            ),
            (
                "nfs:[2001:db8::1]:/srv/a:b:/x.sqfs!/root.img",
                share("2001:db8::1", "/srv/a:b"),
                vec!["/x.sqfs", "/root.img"],
            ),
            ("nfs:192.0.2.1:/:/r", share("192.0.2.1", "/"), vec!["/r"]),
        ] {
            let base: Base = text.parse().unwrap();
            let path = path.into_iter().map(str::to_owned).collect();
            assert_eq!(base, Base { medium, path }, "{text}");
            assert_eq!(base.to_string().parse().as_ref(), Ok(&base), "{text}");
        }
    }

    #[test]
    fn a_base_that_names_nothing_is_refused_saying_what_is_wrong() {
        for (text, says) in [
            ("", "does not name a medium"),
            ("LIVE", "does not name a medium"),
            ("LABEL=", "names nothing"),
            ("LABEL=:/x", "names nothing"),
            ("/dev/", "does not name a medium"),
            (":/x", "does not name a medium"),
            ("LABEL=L:/", "must be an absolute path"),
            ("LABEL=L:/a!b", "must be an absolute path"),
            ("LABEL=L:/a!", "must be an absolute path"),
            ("LABEL=L:/a/../b", "without '..'"),
            ("nfs:192.0.2.1:/export", "names no file on the server"),
            ("nfs:192.0.2.1", "names no export"),
            ("nfs:192.0.2.1:export:/r", "is no IP address"),
            ("nfs:server:/export:/r", "there is no DNS in an initramfs"),
            ("nfs:2001:db8::1:/export:/r", "an IPv6 one in brackets"),
            ("nfs:[192.0.2.1]:/export:/r", "is no IP address"),
            ("nfs:[2001:db8::1]/export:/r", "is no IP address"),
            ("nfs:192.0.2.1:/export:/../r", "without '..'"),
            ("nfs:192.0.2.1:/export:/", "must be an absolute path"),
        ] {
            let error = text.parse::<Base>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
