//! A store on an image, with one request at a time and commands in their order: the same requests give
//! the same bytes.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use cowroot::engine::command::{
    Action, Buffer, Buffers, CommandId, Failure, Op, Outbox, Outcome, Request, RequestId, Span,
};
use cowroot::engine::cowfile::create::{self, Plan};
use cowroot::engine::cowfile::recover::{Medium, Recovered, recover};
use cowroot::engine::cowfile::staging::Staging;
use cowroot::engine::cowfile::trouble::Trouble;
use cowroot::engine::cowfile::{Cowfile, Durability, Settings, WhenFull, scratch_chunks};
use cowroot::engine::units::Extent;

use super::image::Image;

type Words = Arc<[AtomicU32]>;

/// Chunks of the longest request.
const LONGEST: usize = 64;
/// Commands that one request may take. More would be a store that goes round in circles.
const MOST_COMMANDS: usize = 100_000;
/// What the base reads as, everywhere.
pub(crate) const BASE: u8 = 0xba;

pub(crate) struct Machine {
    pub(crate) image: Image,
    pub(crate) store: Cowfile<Words>,
    /// What was written where, and `None` for each sync.
    pub(crate) log: Vec<Option<(u32, Vec<u8>)>>,
    memory: Memory,
}

struct Memory {
    request: Vec<u8>,
    scratch: Vec<Vec<u8>>,
    staging: Vec<u8>,
}

impl Buffers for Memory {
    fn bytes(&self, span: Span) -> &[u8] {
        let buffer = match span.buffer {
            Buffer::Request(_) => &self.request,
            Buffer::Scratch(index) => &self.scratch[index],
            Buffer::Staging => &self.staging,
        };
        &buffer[span.start..span.start + span.len]
    }

    fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let buffer = match span.buffer {
            Buffer::Request(_) => &mut self.request,
            Buffer::Scratch(index) => &mut self.scratch[index],
            Buffer::Staging => &mut self.staging,
        };
        &mut buffer[span.start..span.start + span.len]
    }
}

/// How a machine runs its store: epochs end with flushes only, and checkpoints come after so many pages.
pub(crate) fn settings(journal_pages: usize, grow_slots: u32, random: u64) -> Settings {
    Settings {
        depth: 1,
        staging_chunks: 4 * LONGEST as u32 + 16,
        page_buffers: 6,
        durability: Durability::Flush,
        when_full: WhenFull::Fail,
        journal_pages,
        journal_chunks: 100_000,
        cached_pages: 4,
        grow_slots,
        metadata_reserve: 0,
        random,
    }
}

impl Machine {
    /// A new cowfile, and a store on it.
    pub(crate) fn create(plan: Plan, settings: Settings) -> Self {
        let mut image = Image::new(plan.shape, plan.grown_slots);
        create::create(&mut image, plan).unwrap();
        Self::open(image, settings).unwrap()
    }

    /// A store on a cowfile that is there.
    pub(crate) fn open(mut image: Image, settings: Settings) -> Result<Self, Trouble> {
        let shape = image.shape;
        let found = recover(&mut image, shape, None)?;
        Ok(Self::with(image, found, settings))
    }

    pub(crate) fn with(image: Image, found: Recovered, settings: Settings) -> Self {
        let words: Words = (0..Staging::<Words>::words_needed(settings.staging_chunks))
            .map(|_| AtomicU32::new(0))
            .collect();
        let chunk = image.shape.chunk_len();
        Self {
            memory: Memory {
                request: vec![0; LONGEST * chunk],
                scratch: vec![vec![0; chunk]; scratch_chunks(settings.depth)],
                staging: vec![0; settings.staging_bytes(&found.superblock)],
            },
            store: Cowfile::open(found, words, settings),
            log: Vec::new(),
            image,
        }
    }

    /// Write `chunk_of` each of these to one chunk after the other.
    pub(crate) fn write(&mut self, chunk: u64, contents: &[u32]) -> Result<(), Failure> {
        let len = self.image.shape.chunk_len();
        let places = self.memory.request.chunks_mut(len);
        for (place, content) in places.zip(contents) {
            place.copy_from_slice(&chunk_of(*content, len));
        }
        self.request(Op::Write, chunk, contents.len() as u64)
    }

    pub(crate) fn discard(&mut self, chunk: u64, count: u64) -> Result<(), Failure> {
        self.request(Op::Discard, chunk, count)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.request(Op::Flush, 0, 0)
    }

    /// What a chunk reads as.
    pub(crate) fn read(&mut self, chunk: u64) -> Result<Vec<u8>, Failure> {
        let len = self.image.shape.chunk_len();
        self.memory.request[..len].fill(0xee);
        self.request(Op::Read, chunk, 1)?;
        Ok(self.memory.request[..len].to_vec())
    }

    /// Close in order; whether it could be.
    pub(crate) fn close(&mut self) -> bool {
        let mut out = Outbox::default();
        self.store.close(&mut self.memory, &mut out);
        self.run(out);
        self.store.is_closed() && self.store.broken().is_none()
    }

    fn request(&mut self, op: Op, chunk: u64, count: u64) -> Result<(), Failure> {
        let bytes = self.image.shape.chunk_bytes();
        let request = Request {
            id: RequestId(0),
            op,
            extent: Extent {
                // A flush is nowhere, as the kernel says it: sector -1.
                offset: match op {
                    Op::Flush => u64::MAX,
                    _ => chunk * bytes,
                },
                len: count * bytes,
            },
            metadata: false,
        };
        let mut out = Outbox::default();
        self.store.submit(request, &mut self.memory, &mut out);
        self.run(out).expect("a request that waits for nothing")
    }

    /// Run commands, in their order, until there are none. How the request ended, if one did.
    fn run(&mut self, mut out: Outbox) -> Option<Result<(), Failure>> {
        let mut ended = None;
        for _ in 0..MOST_COMMANDS {
            for (_, result) in out.done.drain(..) {
                assert!(ended.replace(result).is_none(), "a request ends once");
            }
            if out.commands.is_empty() {
                return ended;
            }
            let command = out.commands.remove(0);
            let outcome = self.execute(command.action);
            self.complete(command.id, outcome, &mut out);
        }
        panic!("the store goes round in circles");
    }

    fn complete(&mut self, id: CommandId, outcome: Outcome, out: &mut Outbox) {
        self.store.complete(id, outcome, &mut self.memory, out);
    }

    fn execute(&mut self, action: Action) -> Outcome {
        let slot = |offset: u64| u32::try_from(offset >> self.image.shape.chunk_shift).unwrap();
        match action {
            Action::ReadBase { into, .. } => self.memory.bytes_mut(into).fill(BASE),
            Action::ReadCow { offset, into } => {
                let slot = slot(offset);
                self.image.read(slot, self.memory.bytes_mut(into))?;
            }
            Action::WriteCow { offset, from } => {
                let slot = slot(offset);
                assert!(slot < self.image.slots, "written beyond what was grown");
                self.log
                    .push(Some((slot, self.memory.bytes(from).to_vec())));
                self.image.put(slot, 0, self.memory.bytes(from));
            }
            Action::GrowCow { offset, len } => {
                self.image.slots = self.image.slots.max(slot(offset + len));
            }
            Action::SyncCow => self.log.push(None),
            Action::PunchCow { .. } => {}
        }
        Ok(action.transfer_bytes())
    }
}

/// The bytes that stand for a number, which is not 0.
pub(crate) fn chunk_of(content: u32, len: usize) -> Vec<u8> {
    content.to_le_bytes().repeat(len / 4)
}
