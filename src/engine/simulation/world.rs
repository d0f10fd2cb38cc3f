//! One engine at work on a base and a store in memory: random requests, completions in any order, faults, deaths.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::machine::{Memory, SECTOR, affected, fill, shorten};
use super::{Faults, Seen};
use crate::engine::command::{
    Action, Buffers, Command, Failure, Op, Outbox, Outcome, Request, RequestId,
};
use crate::engine::map::Map;
use crate::engine::plan::Geometry;
use crate::engine::stack::{Stack, scratch_chunks};
use crate::engine::units::{CHUNK_BYTES, Extent, Limits};

const DEPTH: usize = 6;

type Words = Arc<[AtomicU32]>;

pub(super) struct UnderWay {
    pub(super) request: Request,
    /// What a write puts there; 0 for discard and zeroes.
    pub(super) content: u32,
    /// What a read may see, for each sector.
    pub(super) may_see: Vec<BTreeSet<u32>>,
    /// Something changed the sectors of a read while it was under way.
    pub(super) disturbed: bool,
    /// In which order it came.
    pub(super) turn: u32,
    /// The store was full at some time while it was under way.
    pub(super) met_full: bool,
}

pub(super) struct Simulation {
    pub(super) random: fastrand::Rng,
    pub(super) geometry: Geometry,
    pub(super) limits: Limits,
    pub(super) words: Words,
    pub(super) stack: Stack<Words>,
    pub(super) memory: Memory,
    pub(super) base: Vec<u8>,
    pub(super) cow: BTreeMap<u64, Vec<u8>>,
    pub(super) cow_bytes: u64,
    pub(super) model: Vec<BTreeSet<u32>>,
    pub(super) under_way: BTreeMap<RequestId, UnderWay>,
    pub(super) commands: Vec<Command>,
    pub(super) faults: Faults,
    pub(super) ran: u64,
    pub(super) contents: u32,
    pub(super) turns: u32,
    pub(super) seen: Seen,
    pub(super) leaks: bool,
}

impl Simulation {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let device_sectors = random.u64(1..200);
        let base_bytes = if random.bool() {
            device_sectors * 512
        } else {
            random.u64(1..=device_sectors * 512)
        };
        let geometry = Geometry {
            device_bytes: device_sectors * 512,
            base_bytes,
            chunk_bytes: CHUNK_BYTES,
        };
        let chunks = u32::try_from(geometry.chunks()).unwrap();
        // Often too few slots for all chunks, so that the store runs full.
        let capacity = random.u32(1..=chunks + 2);
        let limits = Limits {
            capacity,
            reserve: random.u32(0..=capacity / 3),
        };
        let words: Words = (0..Map::<Words>::words_needed(geometry.chunks()))
            .map(|_| AtomicU32::new(0))
            .collect();
        let mut base = vec![0; usize::try_from(base_bytes).unwrap()];
        let mut model = Vec::new();
        for (sector, bytes) in (1_000_000u32..).zip(base.chunks_mut(SECTOR)) {
            // A sector that the base ends in must stay recognisable: leave it zero.
            let content = if bytes.len() == SECTOR && random.u8(0..5) > 0 {
                sector
            } else {
                0
            };
            fill(bytes, content);
            model.push(BTreeSet::from([content]));
        }
        model.resize(
            usize::try_from(device_sectors).unwrap(),
            BTreeSet::from([0]),
        );
        let memory = Memory {
            requests: vec![vec![0xee; 200 * SECTOR]; DEPTH],
            scratch: vec![vec![0xdd; 4096]; scratch_chunks(DEPTH)],
            staging: Vec::new(),
        };
        let stack = Stack::create(words.clone(), geometry, limits, DEPTH);
        Self {
            random,
            geometry,
            limits,
            words,
            stack,
            memory,
            base,
            cow: BTreeMap::new(),
            cow_bytes: 0,
            model,
            under_way: BTreeMap::new(),
            commands: Vec::new(),
            faults,
            ran: 0,
            contents: 0,
            turns: 0,
            seen: Seen::default(),
            leaks: false,
        }
    }

    pub(super) fn run(mut self, steps: u32) -> Seen {
        for _ in 0..steps {
            let idle: Vec<u16> = (0..6)
                .filter(|&id| !self.under_way.contains_key(&RequestId(id)))
                .collect();
            if !idle.is_empty() && (self.commands.is_empty() || self.random.bool()) {
                let id = RequestId(idle[self.random.usize(0..idle.len())]);
                self.submit(id);
            } else if !self.commands.is_empty() {
                if self.random.u16(0..1000) < self.faults.dying {
                    self.die();
                } else {
                    self.run_one();
                }
            }
        }
        self.drain();
        self.faults = Faults::default();
        self.read_everything();
        self.check_nothing_is_left_over();
        self.seen
    }

    pub(super) fn submit(&mut self, id: RequestId) {
        let sectors = self.model.len() as u64;
        let start = self.random.u64(0..sectors);
        let most = if self.random.bool() { 8 } else { 40 };
        let len = self.random.u64(1..=most.min(sectors - start));
        let (start, len) = if self.random.u8(0..3) == 0 {
            // Whole chunks, as file systems do it.
            let start = start / 8 * 8;
            (
                start,
                len.div_ceil(8).saturating_mul(8).min(sectors - start),
            )
        } else {
            (start, len)
        };
        let op = match self.random.u8(0..12) {
            0..5 => Op::Write,
            5..9 => Op::Read,
            9 => Op::Discard,
            10 => Op::WriteZeroes,
            _ => Op::Flush,
        };
        let content = match op {
            Op::Write if self.random.u8(0..6) > 0 => {
                self.contents += 1;
                self.contents
            }
            _ => 0,
        };
        let request = Request {
            id,
            op,
            extent: Extent {
                offset: start * 512,
                len: len * 512,
            },
            metadata: self.random.u8(0..5) == 0,
        };
        self.issue(request, content);
    }

    pub(super) fn issue(&mut self, request: Request, content: u32) {
        let sectors = affected(&self.geometry, &request);
        let buffer = &mut self.memory.requests[usize::from(request.id.0)][..sectors.len() * SECTOR];
        let poison = 0xffff_ffff;
        fill(
            buffer,
            if request.op == Op::Read {
                poison
            } else {
                content
            },
        );
        let changes = !matches!(request.op, Op::Read | Op::Flush);
        let (mut may_see, mut disturbed) = (Vec::new(), false);
        for sector in sectors.clone() {
            let mut values = self.model[sector].clone();
            for other in self
                .under_way
                .values()
                .filter(|other| other.request.op != Op::Read)
            {
                if affected(&self.geometry, &other.request).contains(&sector) {
                    values.insert(other.content);
                    disturbed = true;
                    self.seen.overlapping += 1;
                }
            }
            may_see.push(values);
        }
        if changes {
            for other in self
                .under_way
                .values_mut()
                .filter(|other| other.request.op == Op::Read)
            {
                let first = affected(&self.geometry, &other.request).start;
                for (sector, values) in (first..).zip(&mut other.may_see) {
                    if sectors.contains(&sector) {
                        values.insert(content);
                        other.disturbed = true;
                    }
                }
            }
        }
        self.turns += 1;
        self.under_way.insert(
            request.id,
            UnderWay {
                request,
                content,
                may_see,
                disturbed,
                turn: self.turns,
                met_full: false,
            },
        );
        let mut out = Outbox::default();
        self.stack.submit(request, &mut self.memory, &mut out);
        self.take(out);
    }

    pub(super) fn run_one(&mut self) {
        let command = self
            .commands
            .swap_remove(self.random.usize(0..self.commands.len()));
        let outcome = self.outcome(command.action);
        let mut out = Outbox::default();
        self.stack
            .complete(command.id, outcome, &mut self.memory, &mut out);
        self.take(out);
    }

    pub(super) fn outcome(&mut self, action: Action) -> Outcome {
        self.ran += 1;
        if self.faults.nth == Some(self.ran) || self.random.u16(0..1000) < self.faults.failing {
            if matches!(action, Action::PunchCow { .. }) {
                self.leaks = true;
            } else if self.random.bool() {
                self.execute(action); // an error does not say that nothing happened
            }
            return Err(if self.random.bool() {
                Failure::Io
            } else {
                Failure::NoSpace
            });
        }
        let mut bytes = action.transfer_bytes();
        if bytes > SECTOR && self.random.u16(0..1000) < self.faults.short {
            bytes = self.random.usize(1..bytes / SECTOR + 1) * SECTOR;
            self.seen.shorts += 1;
        }
        self.execute(shorten(action, bytes));
        Ok(bytes)
    }

    pub(super) fn execute(&mut self, action: Action) {
        match action {
            Action::ReadBase { offset, into } => {
                let start = usize::try_from(offset).unwrap();
                let bytes = self.base[start..start + into.len].to_vec();
                self.memory.bytes_mut(into).copy_from_slice(&bytes);
            }
            Action::ReadCow { offset, into } => {
                let bytes: Vec<u8> = (offset..offset + into.len as u64)
                    .map(|at| self.cow_byte(at))
                    .collect();
                self.memory.bytes_mut(into).copy_from_slice(&bytes);
            }
            Action::WriteCow { offset, from } => {
                let bytes = self.memory.bytes(from).to_vec();
                for (at, byte) in (offset..).zip(bytes) {
                    let page = self
                        .cow
                        .entry(at / CHUNK_BYTES)
                        .or_insert_with(|| vec![0; 4096]);
                    page[usize::try_from(at % CHUNK_BYTES).unwrap()] = byte;
                    self.cow_bytes = self.cow_bytes.max(at + 1);
                }
            }
            Action::SyncCow | Action::GrowCow { .. } => unreachable!("not of a volatile store"),
            Action::PunchCow { offset, len } => {
                self.cow
                    .retain(|&page, _| !(offset..offset + len).contains(&(page * CHUNK_BYTES)));
            }
        }
    }

    pub(super) fn cow_byte(&self, at: u64) -> u8 {
        self.cow
            .get(&(at / CHUNK_BYTES))
            .map_or(0, |page| page[usize::try_from(at % CHUNK_BYTES).unwrap()])
    }

    /// The process dies: what was asked for may have happened or not; what happened stays.
    pub(super) fn die(&mut self) {
        self.seen.deaths += 1;
        for command in std::mem::take(&mut self.commands) {
            if self.random.bool() {
                let bytes = command.action.transfer_bytes();
                let part = self.random.usize(0..=bytes / SECTOR) * SECTOR;
                let done = if self.random.bool() { bytes } else { part };
                self.execute(shorten(command.action, done));
            }
        }
        let lost = std::mem::take(&mut self.under_way);
        for over in lost
            .values()
            .filter(|over| !matches!(over.request.op, Op::Read | Op::Flush))
        {
            for sector in affected(&self.geometry, &over.request) {
                self.model[sector].insert(over.content);
            }
        }
        self.memory
            .scratch
            .iter_mut()
            .for_each(|scratch| scratch.fill(0xcc));
        self.reopen();
        if self.random.bool() {
            // ublk hands the new process what was never acknowledged, in any order.
            for (_, over) in lost {
                self.issue(over.request, over.content);
            }
        }
    }

    /// A new process finds what the last one left.
    pub(super) fn reopen(&mut self) {
        let (stack, out) = Stack::open(
            self.words.clone(),
            self.geometry,
            self.limits,
            self.cow_bytes,
            DEPTH,
        )
        .expect("its own map");
        self.stack = stack;
        self.take(out);
    }
}
