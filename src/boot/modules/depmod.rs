//! depmod's binary indexes, for an initramfs that has nothing else of depmod's (mkinitcpio's): tries of names.
//!
//! Numbers are big-endian and of 4 bytes. A file begins with magic, version, and the link to its root. The lower bits
//! of a link are a node's offset, and the upper ones say which of these there are, one after the other:
//!
//! | part | bytes |
//! |---|---|
//! | prefix | what all names below it go on with, and a NUL |
//! | children | the first and the last letter that a name can go on with; then a link for each in between, or 0 |
//! | values | their number; then for each its priority, its text, and a NUL |

use std::io;
use std::path::Path;

const MAGIC: u32 = 0xB007_F457;
const VERSION_MAJOR: u32 = 2;
const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;
const OFFSET: u32 = 0x0FFF_FFFF;

/// More than the longest name: PID 1's stack has an end.
const LONGEST_NAME: usize = 2048;

/// The names in an index, each with one of its values; `None` if there is no such file.
///
/// # Errors
/// It cannot be read, or is damaged.
pub(super) fn read(file: &Path) -> io::Result<Option<Vec<(String, String)>>> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || {
        let text = format!("'{}' is damaged; run depmod again", file.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    entries(&bytes).ok_or_else(damaged).map(Some)
}

fn entries(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut trie = Trie {
        bytes,
        nodes_left: bytes.len(),
        found: Vec::new(),
    };
    if trie.number(0)? != MAGIC || trie.number(4)? >> 16 != VERSION_MAJOR {
        return None;
    }
    let root = trie.number(8)?;
    trie.node(root, &mut Vec::new())?;
    Some(trie.found)
}

struct Trie<'a> {
    bytes: &'a [u8],
    /// A damaged one may lead in circles, or to the same values from everywhere.
    nodes_left: usize,
    found: Vec<(String, String)>,
}

impl<'a> Trie<'a> {
    fn number(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    fn text(&self, at: usize) -> Option<&'a [u8]> {
        let rest = self.bytes.get(at..)?;
        rest.split(|byte| *byte == 0)
            .next()
            .filter(|text| text.len() < rest.len())
    }

    /// Take what is at and below a node; `name` is what led there.
    fn node(&mut self, link: u32, name: &mut Vec<u8>) -> Option<()> {
        self.nodes_left = self.nodes_left.checked_sub(1)?;
        let before = name.len();
        let mut at = usize::try_from(link & OFFSET).ok()?;
        if link & PREFIX != 0 {
            let prefix = self.text(at)?;
            name.extend_from_slice(prefix);
            at += prefix.len() + 1;
        }
        if name.len() > LONGEST_NAME {
            return None;
        }
        if link & CHILDREN != 0 {
            let (first, last) = (*self.bytes.get(at)?, *self.bytes.get(at + 1)?);
            at += 2;
            for letter in first..=last {
                let child = self.number(at)?;
                at += 4;
                if child != 0 {
                    name.push(letter);
                    self.node(child, name)?;
                    name.pop();
                }
            }
        }
        if link & VALUES != 0 {
            let count = self.number(at)?;
            at += 4;
            for _ in 0..count {
                self.nodes_left = self.nodes_left.checked_sub(1)?;
                let value = self.text(at.checked_add(4)?)?;
                at += 4 + value.len() + 1;
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                self.found.push((text(name), text(value)));
            }
        }
        name.truncate(before);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "ext" with the value "all", and below it "ext2" and "ext4", the latter with two values.
    fn index() -> Vec<u8> {
        let mut bytes = vec![0; 12];
        let mut links = Vec::new();
        for values in [&["two"][..], &["four", "vier"]] {
            links.push(u32::try_from(bytes.len()).unwrap() | VALUES);
            bytes.extend(u32::try_from(values.len()).unwrap().to_be_bytes());
            for value in values {
                bytes.extend(7_u32.to_be_bytes());
                bytes.extend(value.bytes().chain([0]));
            }
        }
        let root = u32::try_from(bytes.len()).unwrap() | PREFIX | CHILDREN | VALUES;
        bytes.extend(b"ext\0");
        bytes.extend(b"24");
        for link in [links[0], 0, links[1]] {
            bytes.extend(link.to_be_bytes());
        }
        bytes.extend(1_u32.to_be_bytes());
        bytes.extend(0_u32.to_be_bytes());
        bytes.extend(b"all\0");
        bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[4..8].copy_from_slice(&0x0002_0001_u32.to_be_bytes());
        bytes[8..12].copy_from_slice(&root.to_be_bytes());
        bytes
    }

    #[test]
    fn each_name_comes_with_its_values() {
        let found = entries(&index()).unwrap();
        let expected = [
            ("ext2", "two"),
            ("ext4", "four"),
            ("ext4", "vier"),
            ("ext", "all"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_damaged_one_is_refused_and_never_walked_for_ever() {
        let whole = index();
        for end in 0..whole.len() {
            assert_eq!(entries(&whole[..end]), None, "cut to {end}");
        }
        for at in 0..whole.len() {
            for byte in [0, 0x20, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                // Whatever it says, it comes to an end.
                let _ = entries(&bytes);
            }
        }
        let mut circle = whole;
        let root = circle[8..12].to_vec();
        let child = circle.windows(2).position(|pair| pair == b"24").unwrap() + 2;
        circle[child..child + 4].copy_from_slice(&root);
        assert_eq!(entries(&circle), None);
    }
}
