//! The engine against a plain model: completions in any order, faults at any command, and the
//! process dying at any command with all its writes kept.
//!
//! Each sector holds one number, its content. The model keeps, for each sector, what it may read as:
//! one value after an acknowledged write, old or new while a write is under way or after it failed.
//! Run one case again with `COWROOT_SEED=<seed>`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::engine::command::{
    Action, Buffer, Buffers, Command, Failure, Op, Outbox, Outcome, Request, RequestId, Span,
};
use crate::engine::map::Map;
use crate::engine::plan::Geometry;
use crate::engine::stack::{Stack, scratch_chunks};
use crate::engine::units::{CHUNK_BYTES, Extent, Limits};

const SECTOR: usize = 512;
const DEPTH: usize = 6;

type Words = Arc<[AtomicU32]>;

/// The memory a driver lends.
struct Memory {
    requests: Vec<Vec<u8>>,
    scratch: Vec<Vec<u8>>,
}

impl Buffers for Memory {
    fn bytes(&self, span: Span) -> &[u8] {
        let buffer = match span.buffer {
            Buffer::Request(id) => &self.requests[usize::from(id.0)],
            Buffer::Scratch(index) => &self.scratch[index],
            Buffer::Staging => unreachable!("a volatile store has none"),
        };
        &buffer[span.start..span.start + span.len]
    }

    fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let buffer = match span.buffer {
            Buffer::Request(id) => &mut self.requests[usize::from(id.0)],
            Buffer::Scratch(index) => &mut self.scratch[index],
            Buffer::Staging => unreachable!("a volatile store has none"),
        };
        &mut buffer[span.start..span.start + span.len]
    }
}

/// What goes wrong, in how many of 1000 commands.
#[derive(Clone, Copy, Default)]
struct Faults {
    failing: u16,
    short: u16,
    dying: u16,
    /// This very command fails, whatever its kind.
    nth: Option<u64>,
}

struct UnderWay {
    request: Request,
    /// What a write puts there; 0 for discard and zeroes.
    content: u32,
    /// What a read may see, for each sector.
    may_see: Vec<BTreeSet<u32>>,
    /// Something changed the sectors of a read while it was under way.
    disturbed: bool,
    /// In which order it came.
    turn: u32,
    /// The store was full at some time while it was under way.
    met_full: bool,
}

struct Simulation {
    random: fastrand::Rng,
    geometry: Geometry,
    limits: Limits,
    words: Words,
    stack: Stack<Words>,
    memory: Memory,
    base: Vec<u8>,
    cow: BTreeMap<u64, Vec<u8>>,
    cow_bytes: u64,
    model: Vec<BTreeSet<u32>>,
    under_way: BTreeMap<RequestId, UnderWay>,
    commands: Vec<Command>,
    faults: Faults,
    ran: u64,
    contents: u32,
    turns: u32,
    seen: Seen,
    leaks: bool,
}

/// How often the interesting things happened.
#[derive(Debug, Default)]
struct Seen {
    deaths: u32,
    no_space: u32,
    failed: u32,
    done: u32,
    overlapping: u32,
    shorts: u32,
}

impl Simulation {
    fn new(seed: u64, faults: Faults) -> Self {
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

    fn run(mut self, steps: u32) -> Seen {
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

    fn submit(&mut self, id: RequestId) {
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

    fn issue(&mut self, request: Request, content: u32) {
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

    fn run_one(&mut self) {
        let command = self
            .commands
            .swap_remove(self.random.usize(0..self.commands.len()));
        let outcome = self.outcome(command.action);
        let mut out = Outbox::default();
        self.stack
            .complete(command.id, outcome, &mut self.memory, &mut out);
        self.take(out);
    }

    fn outcome(&mut self, action: Action) -> Outcome {
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

    fn execute(&mut self, action: Action) {
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

    fn cow_byte(&self, at: u64) -> u8 {
        self.cow
            .get(&(at / CHUNK_BYTES))
            .map_or(0, |page| page[usize::try_from(at % CHUNK_BYTES).unwrap()])
    }

    fn take(&mut self, out: Outbox) {
        self.commands.extend(out.commands);
        let full = self.limits.capacity - self.stack.usage().used_slots <= self.limits.reserve;
        self.under_way
            .values_mut()
            .for_each(|over| over.met_full |= full);
        for (id, result) in out.done {
            let over = self
                .under_way
                .remove(&id)
                .expect("only what is under way is done");
            self.seen.done += 1;
            self.check_turn(&over);
            let sectors = affected(&self.geometry, &over.request);
            match (over.request.op, result) {
                (Op::Flush, result) => assert_eq!(result, Ok(())),
                (Op::Read, Ok(())) => self.check_read(&over),
                (Op::Read, Err(_)) => {
                    assert!(self.faults_possible(), "a read failed for no reason")
                }
                (_, Ok(())) => self.model[sectors].fill(BTreeSet::from([over.content])),
                (_, Err(failure)) => {
                    assert!(
                        self.faults_possible() || (failure == Failure::NoSpace && over.met_full),
                        "failed for no reason"
                    );
                    match failure {
                        Failure::NoSpace => self.seen.no_space += 1,
                        Failure::Io => self.seen.failed += 1,
                    }
                    for values in &mut self.model[sectors] {
                        values.insert(over.content);
                    }
                }
            }
        }
    }

    /// Requests that change the same sectors end in the order they came.
    fn check_turn(&self, over: &UnderWay) {
        let changed = |request: &Request| match request.op {
            Op::Read | Op::Flush => 0..0,
            _ => affected(&self.geometry, request),
        };
        let mine = changed(&over.request);
        let earlier = self
            .under_way
            .values()
            .filter(|other| other.turn < over.turn);
        for other in earlier.map(|other| changed(&other.request)) {
            assert!(
                mine.end <= other.start || other.end <= mine.start,
                "{mine:?} overtook {other:?}"
            );
        }
    }

    fn faults_possible(&self) -> bool {
        self.faults.failing > 0 || self.faults.nth.is_some()
    }

    fn check_read(&mut self, over: &UnderWay) {
        let first = affected(&self.geometry, &over.request).start;
        let buffer = &self.memory.requests[usize::from(over.request.id.0)];
        for (index, (sector, values)) in (first..).zip(&over.may_see).enumerate() {
            let bytes = &buffer[index * SECTOR..(index + 1) * SECTOR];
            let content = u32::from_le_bytes(bytes[..4].try_into().unwrap());
            assert!(
                bytes.chunks(4).all(|word| word == &bytes[..4]),
                "sector {sector} is torn"
            );
            assert!(
                values.contains(&content),
                "sector {sector} reads {content}, may be {values:?}"
            );
            if !over.disturbed {
                // From now on it must stay what it was seen to be.
                self.model[sector] = BTreeSet::from([content]);
            }
        }
    }

    /// The process dies: what was asked for may have happened or not; what happened stays.
    fn die(&mut self) {
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
    fn reopen(&mut self) {
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

    fn drain(&mut self) {
        while !self.commands.is_empty() {
            self.run_one();
        }
        assert!(
            self.under_way.is_empty(),
            "requests that wait for nothing are done"
        );
    }

    fn read_everything(&mut self) {
        let sectors = self.model.len() as u64;
        for start in (0..sectors).step_by(50) {
            let extent = Extent {
                offset: start * 512,
                len: (sectors - start).min(50) * 512,
            };
            self.issue(
                Request {
                    id: RequestId(0),
                    op: Op::Read,
                    extent,
                    metadata: false,
                },
                0,
            );
            self.drain();
        }
    }

    fn check_nothing_is_left_over(&mut self) {
        let used = self.stack.usage().used_slots;
        assert!(
            self.leaks || self.cow.len() <= used as usize,
            "{} pages for {used} slots",
            self.cow.len()
        );
        // What a new process finds is what this one thinks it has.
        self.reopen();
        self.drain();
        assert_eq!(self.stack.usage().used_slots, used, "slots lost or found");
        // Forgetting everything gives everything back.
        let extent = Extent {
            offset: 0,
            len: self.geometry.device_bytes,
        };
        self.issue(
            Request {
                id: RequestId(1),
                op: Op::Discard,
                extent,
                metadata: false,
            },
            0,
        );
        self.drain();
        assert_eq!(self.stack.usage().used_slots, 0);
        assert!(self.cow.is_empty(), "RAM is given back");
    }
}

/// The sectors a request reads or changes.
fn affected(geometry: &Geometry, request: &Request) -> std::ops::Range<usize> {
    let sector = |byte: u64| usize::try_from(byte / 512).unwrap();
    match request.op {
        Op::Flush => 0..0,
        Op::Discard => {
            let whole = geometry.pieces(request.extent).whole;
            sector(whole.start * CHUNK_BYTES)
                ..sector((whole.end * CHUNK_BYTES).min(geometry.device_bytes))
        }
        _ => sector(request.extent.offset)..sector(request.extent.end()),
    }
}

fn shorten(action: Action, bytes: usize) -> Action {
    match action {
        Action::ReadBase { offset, into } => Action::ReadBase {
            offset,
            into: into.part(0, bytes),
        },
        Action::ReadCow { offset, into } => Action::ReadCow {
            offset,
            into: into.part(0, bytes),
        },
        Action::WriteCow { offset, from } => Action::WriteCow {
            offset,
            from: from.part(0, bytes),
        },
        Action::PunchCow { .. } | Action::SyncCow | Action::GrowCow { .. } => action,
    }
}

fn fill(bytes: &mut [u8], content: u32) {
    bytes
        .chunks_mut(4)
        .for_each(|word| word.copy_from_slice(&content.to_le_bytes()[..word.len()]));
}

/// Run `count` seeds, or the one that was asked for, and add up what was seen.
fn run_seeds(count: u64, steps: u32, faults: impl Fn(u64) -> Faults) -> Seen {
    let asked = std::env::var("COWROOT_SEED")
        .ok()
        .map(|seed| seed.parse().expect("COWROOT_SEED is a number"));
    let fresh = fastrand::u64(..);
    // Half the seeds are the same every time, half are new.
    let seeds = (0..count).map(|n| if n % 2 == 0 { n } else { fresh.wrapping_add(n) });
    let mut total = Seen::default();
    for seed in asked.map_or_else(|| seeds.collect(), |seed| vec![seed]) {
        let hint = Hint(seed);
        let seen = Simulation::new(seed, faults(seed)).run(steps);
        std::mem::forget(hint);
        total.deaths += seen.deaths;
        total.no_space += seen.no_space;
        total.failed += seen.failed;
        total.done += seen.done;
        total.overlapping += seen.overlapping;
        total.shorts += seen.shorts;
    }
    println!("{count} seeds: {total:?}");
    total
}

/// Says which seed it was if the test panics.
struct Hint(u64);

impl Drop for Hint {
    fn drop(&mut self) {
        eprintln!("run it again with COWROOT_SEED={}", self.0);
    }
}

#[test]
fn the_device_reads_as_written_with_completions_in_any_order() {
    let seen = run_seeds(250, 300, |_| Faults {
        short: 100,
        ..Faults::default()
    });
    assert!(
        seen.no_space > 50 && seen.overlapping > 50 && seen.shorts > 50,
        "the rare cases are not reached"
    );
}

#[test]
fn errors_at_any_command_lose_nothing_that_was_acknowledged() {
    let seen = run_seeds(250, 300, |seed| Faults {
        failing: 60,
        short: 60,
        dying: if seed % 3 == 0 { 20 } else { 0 },
        ..Faults::default()
    });
    assert!(seen.failed > 50);
}

#[test]
fn the_nth_command_failing_loses_nothing_for_every_n() {
    for seed in [3, 4, 5] {
        run_seeds(2, 120, |_| Faults::default());
        for nth in 1..120 {
            let faults = Faults {
                nth: Some(nth),
                ..Faults::default()
            };
            let hint = Hint(seed);
            Simulation::new(seed, faults).run(120);
            std::mem::forget(hint);
        }
    }
}

#[test]
fn a_process_that_dies_at_any_command_loses_nothing_that_was_acknowledged() {
    let seen = run_seeds(250, 400, |_| Faults {
        dying: 40,
        short: 40,
        ..Faults::default()
    });
    assert!(seen.deaths > 200, "{seen:?}");
}
