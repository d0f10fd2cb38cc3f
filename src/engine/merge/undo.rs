//! The undo log: what a merge overwrites, kept before it is overwritten, so that the base can be what it was.
//!
//! docs/format.md has its bytes. A chunk is kept once, whatever is written to it how often, so records may be laid
//! back in any order, and any number of times.

use std::collections::BTreeMap;

use super::batch::Batch;
use super::compare::Compare;
use super::mutant::{self, Mutant};
use super::record::{ALIGN, Kept, Record, encode_head, encode_record, read_head, read_record};
use super::{BaseMut, Side, Stopped, Watch, sync};

pub use super::record::{BadLog, Head};

/// A log that can be added to, or laid back.
#[derive(Debug, Clone)]
pub struct Log {
    head: Head,
    records: Vec<Record>,
    /// What is kept: first chunk → one past the last.
    chunks: BTreeMap<u64, u64>,
    end: u64,
}

impl Log {
    /// Begin one, durably; whatever is in the file is lost.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(file: &mut impl BaseMut, head: Head) -> Result<Self, Stopped> {
        let bytes = encode_head(&head);
        let end = bytes.len() as u64;
        file.resize(0).map_err(Side::Log.failed("beginning", 0))?;
        file.resize(end).map_err(Side::Log.failed("beginning", 0))?;
        file.write(0, &bytes)
            .map_err(Side::Log.failed("beginning", 0))?;
        file.sync().map_err(Side::Log.failed("syncing", 0))?;
        Ok(Self {
            head,
            records: Vec::new(),
            chunks: BTreeMap::new(),
            end,
        })
    }

    /// Read one, as it is on its medium: who wrote it may have ended before a record was durable, and its chunks are
    /// written to the base only when it is. A record that was being written when the power went ends it.
    ///
    /// # Errors
    /// It is none, or damaged.
    pub fn open(file: &mut impl BaseMut) -> Result<Self, Stopped> {
        if !mutant::is(Mutant::LogTrusted) {
            file.sync().map_err(Side::Log.failed("syncing", 0))?;
        }
        let size_bytes = file.size_bytes();
        file.forget(0, size_bytes);
        let (head, end) = read_head(file)?;
        let mut log = Self {
            head,
            records: Vec::new(),
            chunks: BTreeMap::new(),
            end,
        };
        while let Some(record) = read_record(file, &log.head, log.end)? {
            log.end = record.end;
            for kept in &record.kept {
                log.chunks.insert(kept.chunk, kept.chunk + kept.count);
            }
            log.records.push(record);
        }
        // Behind a torn one there is nothing.
        let mut at = log.end + ALIGN;
        while at < size_bytes {
            if read_record(file, &log.head, at)?.is_some() {
                return Err(Stopped::Log(BadLog::Damaged { offset: log.end }));
            }
            at += ALIGN;
        }
        Ok(log)
    }

    /// What it says of itself.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Whether anything was overwritten, as far as it tells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The cowfile's description after the merge, if that is over.
    #[must_use]
    pub fn description_after(&self) -> Option<&[u8]> {
        let end = self.records.iter().rfind(|record| record.is_end);
        end.map(|record| record.description.as_slice())
    }

    /// Whether a chunk of the base is kept, or is behind its end.
    #[must_use]
    pub fn has(&self, chunk: u64) -> bool {
        let before = self.chunks.range(..=chunk).next_back();
        before.is_some_and(|(_, end)| chunk < *end) || chunk >= self.head.base_chunks()
    }

    /// Chunks that are kept.
    #[must_use]
    pub fn kept_chunks(&self) -> u64 {
        self.chunks.iter().map(|(start, end)| end - start).sum()
    }

    /// Keep what a batch is about to overwrite, durably.
    pub(super) fn keep(
        &mut self,
        file: &mut impl BaseMut,
        base: &mut impl BaseMut,
        batch: &Batch,
    ) -> Result<(), Stopped> {
        debug_assert_eq!(batch.chunk_bytes(), 1 << self.head.chunk_shift, "one shape");
        let (mut kept, mut data): (Vec<Kept>, Vec<u8>) = (Vec::new(), Vec::new());
        batch.will_read(base);
        for piece in batch.pieces() {
            for chunk in piece.chunk..piece.chunk + piece.count {
                if self.has(chunk) {
                    continue;
                }
                let mut one = Kept {
                    chunk,
                    count: 1,
                    is_zero: false,
                };
                let offset = chunk << self.head.chunk_shift;
                let start = data.len();
                let len = usize::try_from(self.head.base_len(&one)).unwrap_or(0);
                data.resize(start + len, 0);
                let place = data.get_mut(start..).unwrap_or_default();
                base.read(offset, place)
                    .map_err(Side::Base.failed("reading", offset))?;
                one.is_zero = place.iter().all(|byte| *byte == 0);
                if one.is_zero {
                    data.truncate(start);
                }
                match kept.last_mut() {
                    Some(last)
                        if last.chunk + last.count == chunk && last.is_zero == one.is_zero =>
                    {
                        last.count += 1;
                    }
                    _ => kept.push(one),
                }
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        self.append(file, &kept, &data, None)
    }

    /// The merge is about to be over: what the cowfile's description is then.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn end(&mut self, file: &mut impl BaseMut, description: &[u8]) -> Result<(), Stopped> {
        self.append(file, &[], &[], Some(description))
    }

    fn append(
        &mut self,
        file: &mut impl BaseMut,
        kept: &[Kept],
        data: &[u8],
        description: Option<&[u8]>,
    ) -> Result<(), Stopped> {
        let seq = self.records.last().map_or(1, |last| last.seq + 1);
        let (bytes, data_at) = encode_record(self.head.id, seq, kept, data, description);
        let (at, end) = (self.end, self.end + bytes.len() as u64);
        // What a torn one left goes.
        file.resize(at).map_err(Side::Log.failed("writing", at))?;
        file.resize(end).map_err(Side::Log.failed("growing", end))?;
        file.write(at, &bytes)
            .map_err(Side::Log.failed("writing", at))?;
        if !mutant::is(Mutant::UndoNotSynced) {
            file.sync().map_err(Side::Log.failed("syncing", at))?;
        }
        for kept in kept {
            self.chunks.insert(kept.chunk, kept.chunk + kept.count);
        }
        self.records.push(Record {
            seq,
            kept: kept.to_vec(),
            description: description.unwrap_or_default().to_vec(),
            is_end: description.is_some(),
            data: at + data_at,
            end,
        });
        self.end = end;
        Ok(())
    }

    /// Lay everything back, give the base its size, and read it again.
    ///
    /// # Errors
    /// Why it ended early. It can be begun again.
    pub fn undo(
        &self,
        file: &mut impl BaseMut,
        base: &mut impl BaseMut,
        watch: &mut Watch<'_>,
    ) -> Result<(), Stopped> {
        let mut compare = Compare::default();
        for record in &self.records {
            let parts = self.parts(file, record)?;
            for (offset, len, bytes) in &parts {
                let written = match bytes {
                    Some(bytes) => base.write(*offset, bytes),
                    None => base.zero(*offset, *len),
                };
                written.map_err(Side::Base.failed("writing", *offset))?;
            }
            sync(base)?;
            let start = parts.iter().map(|(offset, ..)| *offset).min();
            let end = parts.iter().map(|(offset, len, _)| offset + len).max();
            if let (Some(start), Some(end)) = (start, end) {
                base.forget(start, end - start);
            }
            for (offset, len, _) in &parts {
                base.will_read(*offset, *len);
            }
            for (offset, len, bytes) in &parts {
                let found = compare.first_difference(base, *offset, *len, bytes.as_deref())?;
                found.map_or(Ok(()), |at| Err(Stopped::Differs(at)))?;
            }
            watch(record.kept.iter().map(|kept| kept.count).sum());
        }
        let size_bytes = self.head.base_bytes;
        if base.size_bytes() != size_bytes && !mutant::is(Mutant::SizeNotRestored) {
            base.resize(size_bytes)
                .map_err(Side::Base.failed("shortening", size_bytes))?;
        }
        sync(base)
    }

    /// What a record keeps: where, how much, and what unless it is zeros.
    #[expect(
        clippy::type_complexity,
        reason = "three things that belong together once"
    )]
    fn parts(
        &self,
        file: &mut impl BaseMut,
        record: &Record,
    ) -> Result<Vec<(u64, u64, Option<Vec<u8>>)>, Stopped> {
        let mut at = record.data;
        let mut parts = Vec::new();
        for kept in &record.kept {
            let (offset, len) = (
                kept.chunk << self.head.chunk_shift,
                self.head.base_len(kept),
            );
            let bytes = match kept.is_zero {
                true => None,
                false => {
                    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                    file.read(at, &mut bytes)
                        .map_err(Side::Log.failed("reading", at))?;
                    at += len;
                    Some(bytes)
                }
            };
            parts.push((offset, len, bytes));
        }
        Ok(parts)
    }
}
