//! A session as one file: what it and those below it have over their base, compressed and checksummed.
//!
//! docs/format.md, "Exports", has its layout: zstd frames, so that `zstd -t` and `zstd -d` can read it, too. The first
//! holds a head, each other one a record, and the last record is an end.

use std::io::{self, Read, Write};

use anyhow::{Context, bail};
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::cowfile::Opened;
use crate::engine::cowfile::offline::{Content, Offline};
use crate::engine::format::description::{Description, Identity};
use crate::engine::format::page;
use crate::engine::format::superblock::DESCRIPTION_VERSION;
use crate::engine::units::{CHUNK_BYTES, CHUNK_LEN};

const MAGIC: [u8; 8] = *b"COWROOTX";
const VERSION: u32 = 1;
/// Chunks of one record: 1 MiB.
const MOST_CHUNKS: usize = 256;
/// Of a frame's content nothing can be longer.
const LONGEST: u64 = (MOST_CHUNKS as u64 + 4096) * CHUNK_BYTES;

const DATA: u32 = 0;
const ZERO: u32 = 1;
const END: u32 = 2;

/// What an export says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the device.
    pub device_bytes: u64,
    /// What people know of the session: its name is the only layer's.
    pub description: Description,
}

impl Head {
    /// The session's name.
    #[must_use]
    pub fn session(&self) -> &str {
        let layers = self.description.layers.first();
        layers.map_or("", |layer| layer.name.as_str())
    }

    /// The base it was written over.
    #[must_use]
    pub fn base(&self) -> &Identity {
        &self.description.base
    }
}

/// A part of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// These bytes, whole chunks, from this chunk on.
    Data(u64, Vec<u8>),
    /// So many chunks of zeros, from this one on.
    Zeros(u64, u64),
}

/// Write what is looked at in a cowfile to `out`. `progress` is told how many of the device's bytes are done. Says how
/// many chunks the session has.
///
/// # Errors
/// Something in the cowfile does not read, or `out` takes no more.
pub fn write(
    mut opened: Opened,
    out: &mut impl Write,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<u64> {
    let superblock = opened.found.superblock.clone();
    let mut description = opened.description;
    description
        .layers
        .retain(|layer| layer.number == superblock.active_layer);
    for layer in &mut description.layers {
        (layer.number, layer.sealed_s) = (0, None);
    }
    description.history.clear();
    write_frame(out, &head(superblock.device_bytes, &description)?)?;
    let chunks = superblock.chunks();
    let mut offline = Offline::new(opened.found);
    let mut writer = Writer {
        out,
        first: 0,
        data: Vec::new(),
        zeros: 0,
        written: 0,
    };
    let mut bytes = vec![0; CHUNK_LEN];
    for chunk in 0..chunks {
        let content = offline
            .read(&mut opened.files, chunk, &mut bytes)
            .with_context(|| format!("reading byte {} of the session", chunk * CHUNK_BYTES))?;
        writer.chunk(chunk, content, &bytes)?;
        if chunk % MOST_CHUNKS as u64 == 0 {
            progress(chunk * CHUNK_BYTES);
        }
    }
    writer.end(chunks)
}

fn head(device_bytes: u64, description: &Description) -> anyhow::Result<Vec<u8>> {
    let description = description
        .encode(1 << 20)
        .map_err(|fault| anyhow::anyhow!("writing the description: {fault}"))?;
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend(device_bytes.to_le_bytes());
    head.extend(description);
    Ok(head)
}

/// A frame's content ends in its own checksum: that of zstd, which covers the frame, is of 32 bits that not every
/// program writes or reads.
fn write_frame(out: &mut impl Write, content: &[u8]) -> io::Result<()> {
    let mut content = content.to_vec();
    content.extend(page::checksum(&content).to_le_bytes());
    let frame = compress_to_vec(content.as_slice(), CompressionLevel::Fastest);
    out.write_all(&frame)
}

struct Writer<'a, W> {
    out: &'a mut W,
    /// The first chunk of what is collected.
    first: u64,
    data: Vec<u8>,
    zeros: u64,
    /// Chunks so far.
    written: u64,
}

impl<W: Write> Writer<'_, W> {
    fn chunk(&mut self, chunk: u64, content: Content, bytes: &[u8]) -> io::Result<()> {
        let goes_on = match content {
            Content::Read => self.zeros == 0 && self.data.len() < MOST_CHUNKS * CHUNK_LEN,
            Content::Zero => self.data.is_empty() && self.zeros < u64::from(u32::MAX),
            Content::Absent => false,
        };
        if !goes_on {
            self.flush()?;
        }
        if self.data.is_empty() && self.zeros == 0 {
            self.first = chunk;
        }
        match content {
            Content::Read => self.data.extend_from_slice(bytes),
            Content::Zero => self.zeros += 1,
            Content::Absent => return Ok(()),
        }
        self.written += 1;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let data = std::mem::take(&mut self.data);
        match std::mem::take(&mut self.zeros) {
            0 if data.is_empty() => Ok(()),
            0 => self.record((self.first, (data.len() / CHUNK_LEN) as u64, DATA), &data),
            zeros => self.record((self.first, zeros, ZERO), &[]),
        }
    }

    fn record(&mut self, (first, count, kind): (u64, u64, u32), data: &[u8]) -> io::Result<()> {
        let mut content = first.to_le_bytes().to_vec();
        content.extend(count.to_le_bytes());
        content.extend(kind.to_le_bytes());
        content.extend_from_slice(data);
        write_frame(self.out, &content)
    }

    fn end(mut self, chunks: u64) -> anyhow::Result<u64> {
        self.flush()?;
        self.record((chunks, self.written, END), &[])?;
        Ok(self.written)
    }
}

/// An export that is read.
#[derive(Debug)]
pub struct Export<R> {
    from: R,
    chunks: u64,
    read: u64,
}

impl<R: Read> Export<R> {
    /// Begin with its head.
    ///
    /// # Errors
    /// It is none, or of another version, or damaged.
    pub fn open(mut from: R) -> anyhow::Result<(Self, Head)> {
        let content = frame(&mut from)?;
        let Some(rest) = content.strip_prefix(&MAGIC) else {
            bail!("it is no session that cowroot exported");
        };
        let (version, rest) = number(rest)?;
        if version != VERSION {
            bail!("it is of version {version}, this cowroot knows version {VERSION}");
        }
        let (bytes, description) = rest.split_first_chunk().context("it is cut short")?;
        let device_bytes = u64::from_le_bytes(*bytes);
        let description = Description::decode(DESCRIPTION_VERSION, description)
            .map_err(|fault| anyhow::anyhow!("it is damaged: {fault}"))?;
        let head = Head {
            device_bytes,
            description,
        };
        let export = Self {
            from,
            chunks: device_bytes.div_ceil(CHUNK_BYTES),
            read: 0,
        };
        Ok((export, head))
    }

    /// The next part; `None` when it was whole.
    ///
    /// # Errors
    /// It is damaged, or ends before its end.
    pub fn record(&mut self) -> anyhow::Result<Option<Record>> {
        let content = frame(&mut self.from)?;
        let (first, rest) = content.split_first_chunk().context("it is cut short")?;
        let (count, rest) = rest.split_first_chunk().context("it is cut short")?;
        let (first, count) = (u64::from_le_bytes(*first), u64::from_le_bytes(*count));
        let (kind, data) = number(rest)?;
        if kind == END {
            return match (first, count) == (self.chunks, self.read) && data.is_empty() {
                true => Ok(None),
                false => bail!("it is damaged: a part of it is missing"),
            };
        }
        let end = first.checked_add(count).filter(|end| *end <= self.chunks);
        let len = count.checked_mul(CHUNK_BYTES);
        let fits = match kind {
            DATA => len == Some(data.len() as u64),
            _ => kind == ZERO && data.is_empty(),
        };
        if end.is_none() || count == 0 || !fits {
            bail!("it is damaged: a part of it makes no sense");
        }
        self.read += count;
        Ok(Some(match kind {
            DATA => Record::Data(first, data.to_vec()),
            _ => Record::Zeros(first, count),
        }))
    }
}

fn number(bytes: &[u8]) -> anyhow::Result<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk().context("it is cut short")?;
    Ok((u32::from_le_bytes(*number), rest))
}

/// The content of the next frame, without its checksum.
fn frame(from: &mut impl Read) -> anyhow::Result<Vec<u8>> {
    let mut decoder = StreamingDecoder::new(from)
        .map_err(|error| anyhow::anyhow!("it is damaged, cut short, or no export: {error}"))?;
    let mut content = Vec::new();
    let read = (&mut decoder).take(LONGEST + 1).read_to_end(&mut content);
    read.context("it is damaged, or cut short")?;
    let Some((rest, sum)) = content.split_last_chunk() else {
        bail!("it is cut short");
    };
    if content.len() as u64 > LONGEST || page::checksum(rest) != u32::from_le_bytes(*sum) {
        bail!("it is damaged: a checksum is wrong");
    }
    let len = rest.len();
    content.truncate(len);
    Ok(content)
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
