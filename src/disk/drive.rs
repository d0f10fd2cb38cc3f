//! A cowfile without a device: driven by whoever offline changes what is in it, one request at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use anyhow::bail;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::base::Base;
use super::cowfile::CowFiles;
use super::growth::Growth;
use super::{Cow, Disk, Medium};
use crate::engine::command::{
    Buffer, Buffers, Command, Failure, Op, Outbox, Request, RequestId, Span,
};
use crate::engine::cowfile::recover::Recovered;
use crate::engine::cowfile::staging::Staging;
use crate::engine::cowfile::{Cowfile, Durability, Settings, WhenFull, scratch_chunks};
use crate::engine::units::{CHUNK_LEN, Extent};
use crate::sys::{self, SharedBytes};

/// Chunks that wait for their commit: 16 MiB.
const STAGED: u32 = 4 << 10;
/// Slots that a cowfile grows by where it need not be a whole file: 16 MiB.
const GROW_SLOTS: u32 = 4 << 10;
/// The only request there is.
const ID: RequestId = RequestId(0);

/// A cowfile, opened to be changed.
#[derive(Debug)]
pub struct Driver {
    engine: Cowfile<Box<[AtomicU32]>>,
    disk: Disk,
    memory: Memory,
}

#[derive(Debug)]
struct Memory {
    request: Vec<u8>,
    scratch: Vec<u8>,
    staging: SharedBytes,
}

impl Driver {
    /// Go on with what was found in these files. The base cannot be read: nothing but whole chunks may be written.
    ///
    /// # Errors
    /// The kernel does not give what it takes.
    pub fn open(files: CowFiles, found: Recovered) -> anyhow::Result<Self> {
        let superblock = &found.superblock;
        let settings = Settings {
            depth: 1,
            staging_chunks: STAGED,
            page_buffers: 64,
            durability: Durability::Driver,
            when_full: WhenFull::Fail,
            journal_pages: 256,
            journal_chunks: 32 << 10,
            cached_pages: 2048,
            grow_slots: match files.growth() {
                Growth::WholeFiles => superblock.file_slots,
                Growth::InPlace | Growth::Never => GROW_SLOTS,
            },
            metadata_reserve: 0,
            random: u64::from_le_bytes(sys::random()?),
        };
        let bytes = settings.staging_bytes(superblock);
        let staging = File::from(memfd_create(c"cowroot-staging", MFdFlags::MFD_CLOEXEC)?);
        staging.set_len(bytes as u64)?;
        let staging = SharedBytes::map(&staging, 0, bytes)?;
        let words = Staging::<Box<[AtomicU32]>>::words_needed(STAGED);
        let medium = Medium::new(files, superblock.origin, staging.source())?;
        Ok(Self {
            disk: Disk::new(Arc::new(Base::none()?), Cow::Medium(Box::new(medium)))?,
            memory: Memory {
                request: Vec::new(),
                scratch: vec![0; scratch_chunks(settings.depth) * CHUNK_LEN],
                staging,
            },
            engine: Cowfile::open(
                found,
                (0..words).map(|_| AtomicU32::new(0)).collect(),
                settings,
            ),
        })
    }

    /// Write whole chunks, `bytes` long from `offset` on; or let so many bytes be zeros.
    ///
    /// # Errors
    /// The medium's, or it is full.
    pub fn write(&mut self, offset: u64, data: Data<'_>) -> Result<(), Failure> {
        let (op, len) = match data {
            Data::Bytes(bytes) => {
                self.memory.request.clear();
                self.memory.request.extend_from_slice(bytes);
                (Op::Write, bytes.len() as u64)
            }
            Data::Zeros(len) => (Op::WriteZeroes, len),
        };
        let request = Request {
            id: ID,
            op,
            extent: Extent { offset, len },
            metadata: false,
        };
        let mut out = Outbox::default();
        self.engine.submit(request, &mut self.memory, &mut out);
        let mut done = None;
        self.run(out, |out| {
            done = done.or(out.done.iter().find(|(id, _)| *id == ID).map(|it| it.1));
            done.is_some()
        })
        .map_err(|_| Failure::Io)?;
        done.unwrap_or(Err(Failure::Io))
    }

    /// Wait until nothing is under way.
    #[cfg(test)]
    pub(crate) fn rest(&mut self) {
        self.run(Outbox::default(), |_| false).unwrap();
    }

    /// Commit what was written, and close: it opens fast then.
    ///
    /// # Errors
    /// The medium's; what was committed before is there.
    pub fn close(mut self) -> anyhow::Result<()> {
        let mut out = Outbox::default();
        self.engine.close(&mut self.memory, &mut out);
        self.run(out, |_| false)?;
        match (self.engine.broken(), self.engine.is_closed()) {
            (Some(Failure::NoSpace), _) => bail!("it is full"),
            (None, true) => Ok(()),
            _ => bail!("its medium does not take writes"),
        }
    }

    /// Run what the engine asks for until nothing is left, or `enough`. What is under way then ends with the next call.
    fn run(&mut self, first: Outbox, mut enough: impl FnMut(&Outbox) -> bool) -> io::Result<()> {
        let mut is_enough = enough(&first);
        let mut commands: VecDeque<Command> = first.commands.into();
        loop {
            let mut ended = Vec::new();
            while let Some(command) = commands.pop_front() {
                let outcome = self.disk.run(command, &mut self.memory);
                ended.extend(outcome.map(|outcome| (command.id, outcome)));
            }
            self.disk.go();
            ended.extend(self.disk.finished(&mut self.memory));
            if ended.is_empty() {
                if is_enough || !self.disk.is_waiting() {
                    return Ok(());
                }
                let mut wake = [PollFd::new(self.disk.wake(), PollFlags::POLLIN)];
                poll(&mut wake, PollTimeout::NONE)?;
            }
            for (id, outcome) in ended {
                let mut out = Outbox::default();
                self.engine
                    .complete(id, outcome, &mut self.memory, &mut out);
                is_enough |= enough(&out);
                commands.extend(out.commands);
            }
        }
    }
}

/// What whole chunks are to hold.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// So many zeros.
    Zeros(u64),
}

impl Memory {
    fn place(&self, span: Span) -> (&[u8], usize) {
        match span.buffer {
            Buffer::Request(_) => (&self.request, span.start),
            Buffer::Scratch(index) => (&self.scratch, index * CHUNK_LEN + span.start),
            Buffer::Staging => (&self.staging, span.start),
        }
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "the engine asks only for memory it was lent; anything else would corrupt data"
)]
impl Buffers for Memory {
    fn bytes(&self, span: Span) -> &[u8] {
        let (bytes, start) = self.place(span);
        &bytes[start..start + span.len]
    }

    fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let (_, start) = self.place(span);
        let bytes = match span.buffer {
            Buffer::Request(_) => self.request.as_mut_slice(),
            Buffer::Scratch(_) => &mut self.scratch,
            Buffer::Staging => &mut self.staging,
        };
        &mut bytes[start..start + span.len]
    }
}
