//! A store and whoever drives it: commands are run in the order they were asked for, one at a time.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU32;

use cowroot::engine::command::{
    Action, Buffer, Buffers, Command, Op, Outbox, Request, RequestId, Span,
};
use cowroot::engine::cowfile::create::MediumMut;
use cowroot::engine::cowfile::recover::{Medium, Recovered, recover};
use cowroot::engine::cowfile::staging::Staging;
use cowroot::engine::cowfile::{Cowfile, Durability, Settings, WhenFull, scratch_chunks};
use cowroot::engine::format::Shape;
use cowroot::engine::units::Extent;

use crate::medium::{CHUNK, Ram};

pub(crate) const SHAPE: Shape = Shape::PRODUCT;
/// The longest request, in chunks.
pub(crate) const LONGEST: usize = 256;

/// How a product would run it.
pub(crate) const SETTINGS: Settings = Settings {
    depth: 64,
    staging_chunks: 16 << 10,
    page_buffers: 64,
    durability: Durability::Flush,
    when_full: WhenFull::Fail,
    journal_pages: 256,
    journal_chunks: 32 << 10,
    cached_pages: 2048,
    grow_slots: 16 << 10,
    metadata_reserve: 4096,
    random: 1,
};

#[derive(Debug)]
pub(crate) struct Memory {
    requests: Vec<Vec<u8>>,
    scratch: Vec<Vec<u8>>,
    staging: Vec<u8>,
}

impl Memory {
    fn buffer(&mut self, buffer: Buffer) -> &mut [u8] {
        match buffer {
            Buffer::Request(id) => &mut self.requests[usize::from(id.0)],
            Buffer::Scratch(index) => &mut self.scratch[index],
            Buffer::Staging => &mut self.staging,
        }
    }
}

impl Buffers for Memory {
    fn bytes(&self, span: Span) -> &[u8] {
        let buffer = match span.buffer {
            Buffer::Request(id) => &self.requests[usize::from(id.0)],
            Buffer::Scratch(index) => &self.scratch[index],
            Buffer::Staging => &self.staging,
        };
        &buffer[span.start..span.start + span.len]
    }

    fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        &mut self.buffer(span.buffer)[span.start..span.start + span.len]
    }

    fn copy(&mut self, from: Span, to: Span) {
        let (source, target) = (
            from.start..from.start + from.len,
            to.start..to.start + to.len,
        );
        match (from.buffer, to.buffer) {
            (Buffer::Request(id), Buffer::Staging) => {
                let source = &self.requests[usize::from(id.0)][source];
                self.staging[target].copy_from_slice(source);
            }
            (Buffer::Staging, Buffer::Request(id)) => {
                self.requests[usize::from(id.0)][target].copy_from_slice(&self.staging[source]);
            }
            _ => {
                let bytes = self.bytes(from).to_vec();
                self.bytes_mut(to).copy_from_slice(&bytes);
            }
        }
    }
}

pub(crate) struct Machine {
    pub(crate) medium: Ram,
    pub(crate) memory: Memory,
    pub(crate) store: Cowfile<Vec<AtomicU32>>,
    commands: VecDeque<Command>,
    done: Vec<RequestId>,
    last: RequestId,
    out: Outbox,
    opens: u64,
}

impl Machine {
    /// Open what is on the medium. The store has asked for nothing yet.
    pub(crate) fn open(mut medium: Ram, opens: u64) -> Self {
        let found = recover(&mut medium, SHAPE, None).unwrap();
        Self::with(medium, found, opens)
    }

    pub(crate) fn with(medium: Ram, found: Recovered, opens: u64) -> Self {
        let words = Staging::<Vec<AtomicU32>>::words_needed(SETTINGS.staging_chunks);
        let words = (0..words).map(|_| AtomicU32::new(0)).collect();
        let settings = Settings {
            random: opens,
            ..SETTINGS
        };
        let memory = Memory {
            // Written, so that all of it is here from now on.
            requests: vec![vec![0xa5; LONGEST * CHUNK]; SETTINGS.depth],
            scratch: vec![vec![1; CHUNK]; scratch_chunks(SETTINGS.depth)],
            staging: vec![1; settings.staging_bytes(&found.superblock)],
        };
        Self {
            medium,
            memory,
            store: Cowfile::open(found, words, settings),
            commands: VecDeque::new(),
            done: Vec::new(),
            last: RequestId(0),
            out: Outbox::default(),
            opens,
        }
    }

    /// Open again, as after a power cut that lost nothing of what was written.
    pub(crate) fn reopen(self) -> Self {
        Self::open(self.medium, self.opens + 1)
    }

    /// Hand in a request of `count` chunks. Whether it is done already.
    pub(crate) fn submit(&mut self, op: Op, first: u64, count: usize) -> bool {
        // What is read must not spoil what the next write's chunks are filled with.
        self.last = RequestId(u16::from(op == Op::Read));
        let request = Request {
            id: self.last,
            op,
            extent: Extent {
                offset: first * CHUNK as u64,
                len: (count * CHUNK) as u64,
            },
            metadata: false,
        };
        self.done.clear();
        self.store.submit(request, &mut self.memory, &mut self.out);
        self.take_out();
        self.is_done()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.contains(&self.last)
    }

    /// Hand in a write of chunks that begin with `mark` and the numbers after it.
    pub(crate) fn write(&mut self, first: u64, count: usize, mark: u64) -> bool {
        for (mark, chunk) in (mark..).zip(self.memory.requests[0].chunks_mut(CHUNK).take(count)) {
            // The rest is as `fill` leaves it.
            chunk[..8].copy_from_slice(&mark.to_le_bytes());
        }
        self.submit(Op::Write, first, count)
    }

    /// Write, and do all that the store wants done.
    pub(crate) fn write_now(&mut self, first: u64, count: usize, mark: u64) {
        if !self.write(first, count, mark) || !self.commands.is_empty() {
            self.run();
        }
        assert!(self.is_done(), "a write waits for nothing");
    }

    pub(crate) fn read_now(&mut self, first: u64, count: usize) {
        if !self.submit(Op::Read, first, count) {
            self.run();
        }
        assert!(self.is_done(), "a read waits for nothing");
    }

    pub(crate) fn flush_now(&mut self) {
        if !self.submit(Op::Flush, 0, 0) {
            self.run();
        }
        assert!(self.is_done(), "a flush waits for nothing");
    }

    /// The first bytes of what was read last.
    pub(crate) fn mark_read(&self) -> u64 {
        u64::from_le_bytes(*self.memory.requests[1].first_chunk().unwrap())
    }

    /// Whether the store waits for nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.commands.is_empty()
    }

    /// Run commands until there are none.
    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    /// Run commands until the request is done.
    pub(crate) fn run_until_done(&mut self) {
        while !self.is_done() && self.step() {}
        assert!(self.is_done(), "a request waits for nothing");
    }

    /// Run commands up to a sync, which is left undone.
    pub(crate) fn run_up_to_sync(&mut self) {
        while let Some(command) = self.commands.front() {
            if command.action == Action::SyncCow {
                return;
            }
            self.step();
        }
    }

    pub(crate) fn close(&mut self) {
        self.store.close(&mut self.memory, &mut self.out);
        self.take_out();
        self.run();
        assert!(self.store.is_closed() && self.store.broken().is_none());
    }

    pub(crate) fn step(&mut self) -> bool {
        let Some(Command { id, action }) = self.commands.pop_front() else {
            return false;
        };
        let slot = |offset: u64| u32::try_from(offset / CHUNK as u64).unwrap();
        match action {
            Action::ReadBase { into, .. } => self.memory.bytes_mut(into).fill(0),
            Action::ReadCow { offset, into } => {
                let into = self.memory.bytes_mut(into);
                self.medium.read(slot(offset), into).unwrap();
            }
            Action::WriteCow { offset, from } => {
                let from = self.memory.bytes(from);
                self.medium.write(slot(offset), from).unwrap();
            }
            Action::SyncCow => self.medium.sync().unwrap(),
            Action::GrowCow { offset, len } => self.medium.grow(slot(offset + len)),
            Action::PunchCow { .. } => {}
        }
        self.store.complete(
            id,
            Ok(action.transfer_bytes()),
            &mut self.memory,
            &mut self.out,
        );
        self.take_out();
        true
    }

    fn take_out(&mut self) {
        self.commands.extend(self.out.commands.drain(..));
        for (id, result) in self.out.done.drain(..) {
            assert_eq!(result, Ok(()), "nothing fails here");
            self.done.push(id);
        }
    }
}
