//! A session that is only read, over its base: to whoever reads it, it is a base itself.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::cowfile::CowFiles;
use crate::engine::cowfile::offline::Offline;
use crate::engine::cowfile::recover::{Medium, Recovered};
use crate::engine::format::{Entry, page};
use crate::engine::units::{CHUNK_BYTES, CHUNK_LEN};

/// What a cowfile has over a base, as it was found.
#[derive(Debug)]
pub struct Over {
    size_bytes: u64,
    base_bytes: u64,
    session: Mutex<(Offline, CowFiles)>,
}

impl Over {
    /// Look through what was found in these files.
    #[must_use]
    pub fn new(found: Recovered, files: CowFiles) -> Self {
        Self {
            size_bytes: found.superblock.device_bytes,
            base_bytes: found.superblock.base_bytes,
            session: Mutex::new((Offline::new(found), files)),
        }
    }

    /// Bytes of the device it was made for.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Bytes of the base it was made for.
    pub(super) fn base_bytes(&self) -> u64 {
        self.base_bytes
    }

    /// The cowfile's descriptors, for another process (`CowFiles::kept`), and the name it has in its folder.
    ///
    /// # Errors
    /// There may be no more descriptors.
    pub fn again(&self) -> io::Result<(Vec<std::fs::File>, Vec<u8>)> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((session.1.again()?, session.1.name()))
    }

    /// Read; what the session does not have, `below` reads (short where the base ends). Short where the device ends.
    pub(super) fn read_at(
        &self,
        buffer: &mut [u8],
        offset: u64,
        below: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let left = self.size_bytes.saturating_sub(offset);
        let len = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let (mut rest, mut at) = (buffer.get_mut(..len).unwrap_or_default(), offset);
        let runs = self.runs(offset, len)?;
        for (entry, count) in runs {
            let end = (at / CHUNK_BYTES + count) * CHUNK_BYTES;
            let here = usize::try_from(end - at).map_or(rest.len(), |here| here.min(rest.len()));
            let (part, behind) = rest.split_at_mut(here);
            match entry {
                Entry::ZERO => part.fill(0),
                Entry::ABSENT => {
                    let mut done = 0;
                    while let Some(part) = part.get_mut(done..).filter(|part| !part.is_empty()) {
                        match below(part, at + done as u64)? {
                            // The device is larger than its base.
                            0 => part.fill(0),
                            read => {
                                done += read;
                                continue;
                            }
                        }
                        break;
                    }
                }
                entry => self.read_chunk(entry, part, at)?,
            }
            (rest, at) = (behind, at + here as u64);
        }
        Ok(len)
    }

    /// What the chunks of a stretch are, and how many in a row are zeros or absent.
    fn runs(&self, offset: u64, len: usize) -> io::Result<Vec<(Entry, u64)>> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let (offline, files) = &mut *session;
        let chunks = offset / CHUNK_BYTES..(offset + len as u64).div_ceil(CHUNK_BYTES);
        let mut runs: Vec<(Entry, u64)> = Vec::new();
        for chunk in chunks {
            let entry = offline.look_up(files, chunk).map_err(io::Error::other)?;
            match runs.last_mut() {
                Some((last, count)) if *last == entry && !entry.is_slot() => *count += 1,
                _ => runs.push((entry, 1)),
            }
        }
        Ok(runs)
    }

    /// A part of a chunk, all of which is read to compare its checksum.
    fn read_chunk(&self, entry: Entry, into: &mut [u8], at: u64) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_LEN];
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = entry.slot;
        let read = session.1.read(slot, &mut chunk);
        drop(session);
        if read.is_err() || page::checksum(&chunk) != entry.crc {
            return Err(io::Error::other(format!(
                "slot {slot} of the cowfile does not read as it was written"
            )));
        }
        let start = usize::try_from(at % CHUNK_BYTES).unwrap_or_default();
        let part = chunk.get(start..start + into.len());
        into.copy_from_slice(part.ok_or(io::ErrorKind::InvalidInput)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::base::Base;
    use super::super::cowfile::Mode;
    use super::super::drive::{Data, Driver};
    use super::*;
    use crate::engine::cowfile::create::{Plan, create};
    use crate::engine::cowfile::recover::recover;
    use crate::engine::format::Shape;
    use crate::engine::format::page::Origin;

    #[test]
    fn what_is_read_is_the_session_and_else_the_base() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.cow");
        let base: Vec<u8> = (0..20_000_u32)
            .map(|at| u8::try_from(at / 4096).unwrap() + 1)
            .collect();
        std::fs::write(folder.path().join("base"), &base).unwrap();
        let origin = Origin {
            store: [5; 16],
            incarnation: 1,
        };
        let slots = Shape::PRODUCT.first_slot() + 64;
        let mut files = CowFiles::create(&path).unwrap();
        files.set_file_slots(1 << 18);
        files
            .grow(0, slots, origin, &mut |file, _| file.sync_all())
            .unwrap();
        let plan = Plan {
            origin,
            shape: Shape::PRODUCT,
            device_bytes: 40 * 1024,
            base_bytes: 20_000,
            max_slots: 1 << 16,
            grown_slots: slots,
            file_slots: 1 << 18,
            description: Vec::new(),
        };
        create(&mut files, plan).unwrap();
        let found = recover(&mut files, Shape::PRODUCT, None).unwrap();
        let mut driver = Driver::open(files, found).unwrap();
        driver.write(4096, Data::Bytes(&[77; 4096])).unwrap();
        driver.write(3 * 4096, Data::Zeros(4096)).unwrap();
        driver.close().unwrap();

        let mut expected = base;
        expected[4096..8192].fill(77);
        expected[3 * 4096..4 * 4096].fill(0);
        expected.resize(40 * 1024, 0);
        let mut files = CowFiles::open(&path, Mode::Read).unwrap();
        let found = recover(&mut files, Shape::PRODUCT, None).unwrap();
        let base = Base::open(&folder.path().join("base")).unwrap();
        let base = base.under(Over::new(found, files));
        assert_eq!(base.size_bytes(), 40 * 1024);
        for (start, len) in [
            (0, 40 * 1024),
            (512, 4096),
            (4096 + 512, 1024),
            (19_900, 5000),
        ] {
            let mut bytes = vec![9; len];
            assert_eq!(base.read_at(&mut bytes, start as u64).unwrap(), len);
            assert!(bytes == expected[start..start + len], "{start}, {len}");
        }
        let mut bytes = vec![9; 4096];
        assert_eq!(base.read_at(&mut bytes, 40 * 1024 - 100).unwrap(), 100);
    }
}
