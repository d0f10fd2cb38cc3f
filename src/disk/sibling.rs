//! Whether a file is a cowfile's sibling, by the page it begins with.

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;

use super::uninterrupted;
use crate::engine::format::page::{self, Header, Kind};

/// Whether a page is the header of this cowfile's file.
pub(super) fn is_of(page: &[u8], store: [u8; 16], number: u32) -> bool {
    page::header(page, Kind::Sibling)
        .is_some_and(|header| header.store == store && header.seq.get() == u64::from(number))
}

/// Whether a page that is no header of this cowfile's may be what is left of one: there is a part of one, or nothing.
pub(super) fn may_have_been_of(page: &[u8], store: [u8; 16]) -> bool {
    let is_whole = page::header(page, Kind::Sibling).is_some();
    let is_blank = [0, 0xff]
        .iter()
        .any(|blank| page.iter().all(|byte| byte == blank));
    let has = |at: usize, bytes: &[u8]| page.get(at..at + bytes.len()) == Some(bytes);
    let has_part =
        has(offset_of!(Header, store), &store) || has(offset_of!(Header, magic), &page::MAGIC);
    !is_whole && (is_blank || has_part)
}

/// The beginning of a file, as far as it goes.
pub(super) fn read_some<'a>(file: &File, into: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let len = uninterrupted(|| file.read_at(into, 0))?;
    Ok(into.get(..len).unwrap_or_default())
}
