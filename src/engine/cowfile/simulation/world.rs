//! One simulated machine: a store on a disk, requests in random order, and everything that goes wrong.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::disk::{Disk, Image, SECTOR, Seen};
use super::history::{History, Sectors, differs};
use crate::engine::command::{
    Action, Buffer, Buffers, Command, Failure, Op, Outbox, Outcome, Request, RequestId, Span,
};
use crate::engine::cowfile::create::{self, Plan};
use crate::engine::cowfile::offline::{Content, Offline};
use crate::engine::cowfile::recover::{Recovered, recover};
use crate::engine::cowfile::staging::{Durable, Staging};
use crate::engine::cowfile::{Cowfile, Durability, Settings, WhenFull, scratch_chunks};
use crate::engine::format::Shape;
use crate::engine::format::page::Origin;
use crate::engine::plan::Geometry;
use crate::engine::units::Extent;

const DEPTH: usize = 5;
const LONGEST: usize = 24;

type Words = Arc<[AtomicU32]>;

/// What goes wrong, in how many of 1000 commands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) failing: u16,
    pub(super) short: u16,
    pub(super) dying: u16,
    /// This very command fails, counted from the first.
    pub(super) nth: Option<u64>,
    /// Power cuts tried after each command.
    pub(super) cuts: u32,
}

struct Memory {
    requests: Vec<Vec<u8>>,
    scratch: Vec<Vec<u8>>,
    staging: Vec<u8>,
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
        let buffer = match span.buffer {
            Buffer::Request(id) => &mut self.requests[usize::from(id.0)],
            Buffer::Scratch(index) => &mut self.scratch[index],
            Buffer::Staging => &mut self.staging,
        };
        &mut buffer[span.start..span.start + span.len]
    }
}

#[derive(Debug, Clone)]
struct UnderWay {
    request: Request,
    content: u32,
    may_see: Sectors,
    /// Something changed the sectors of a read while it was under way.
    disturbed: bool,
    /// A flush covers this epoch.
    covers: u64,
}

/// A command, and how many writes had ended when it was asked for.
struct Asked {
    command: Command,
    unsynced: usize,
    /// Syncs that ended since move what was written before.
    synced: u64,
}

pub(super) struct World {
    pub(super) random: fastrand::Rng,
    shape: Shape,
    settings: Settings,
    geometry: Geometry,
    base: Vec<u8>,
    disk: Disk,
    words: Words,
    memory: Memory,
    store: Cowfile<Words>,
    /// What each sector may read as now.
    model: Sectors,
    history: History,
    under_way: BTreeMap<RequestId, UnderWay>,
    commands: Vec<Asked>,
    /// Writes since the last power cut, to repeat.
    log: Vec<(Request, u32)>,
    faults: Faults,
    ran: u64,
    /// Writes that syncs have taken off the front of the disk's list.
    synced: u64,
    contents: u32,
    faulty: bool,
    pub(super) seen: Seen,
    pub(super) states: u64,
    pub(super) distinct: HashSet<u32>,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let shape = Shape {
            chunk_shift: 10,
            fanout_shift: random.u8(1..=3),
            zone_slots: random.u32(5..=9),
        };
        let device_sectors = random.u64(2..=80);
        let base_bytes = match random.bool() {
            true => device_sectors * 512,
            false => random.u64(1..=device_sectors * 512),
        };
        let geometry = Geometry {
            device_bytes: device_sectors * 512,
            base_bytes,
            chunk_bytes: shape.chunk_bytes(),
        };
        let staging_chunks = random.u32(2..=12);
        // From too tight for all chunks to roomy.
        let max_slots = shape.first_slot() + random.u32(40..=220);
        let grown_slots = (shape.first_slot() + random.u32(12..=100)).min(max_slots);
        let settings = Settings {
            depth: DEPTH,
            staging_chunks,
            page_buffers: random.u32(4..=8),
            durability: match random.u8(0..4) {
                0 => Durability::Driver,
                _ => Durability::Flush,
            },
            when_full: WhenFull::Fail,
            journal_pages: random.usize(2..=24),
            journal_chunks: random.usize(4..=80),
            cached_pages: random.usize(4..=20),
            grow_slots: shape.zone_slots * random.u32(1..=3),
            metadata_reserve: random.u32(0..=8),
            random: seed,
        };
        let mut base = vec![0; usize::try_from(base_bytes).unwrap()];
        let mut model = Vec::new();
        for (sector, bytes) in (1_000_000u32..).zip(base.chunks_mut(SECTOR)) {
            let whole = bytes.len() == SECTOR && random.u8(0..5) > 0;
            let content = if whole { sector } else { 0 };
            fill(bytes, content);
            model.push(BTreeSet::from([content]));
        }
        model.resize(
            usize::try_from(device_sectors).unwrap(),
            BTreeSet::from([0]),
        );
        let mut disk = Disk::new(shape, grown_slots);
        let plan = Plan {
            origin: Origin {
                store: [7; 16],
                incarnation: 1,
            },
            shape,
            device_bytes: geometry.device_bytes,
            base_bytes,
            max_slots,
            grown_slots,
            file_slots: random.u32(20..=300),
            description: vec![9; random.usize(0..40)],
        };
        create::create(&mut disk, plan).unwrap();
        let found = recover(&mut disk, shape, None).unwrap();
        let staging_bytes = settings.staging_bytes(&found.superblock);
        let history = History::after_cut(0, 1, model.clone());
        let words = words(staging_chunks);
        Self {
            memory: Memory {
                requests: vec![vec![0xee; LONGEST * SECTOR]; DEPTH],
                scratch: vec![vec![0xdd; shape.chunk_len()]; scratch_chunks(DEPTH)],
                staging: vec![0xcc; staging_bytes],
            },
            store: Cowfile::open(found, words.clone(), settings),
            random,
            shape,
            settings,
            geometry,
            base,
            disk,
            words,
            model,
            history,
            under_way: BTreeMap::new(),
            commands: Vec::new(),
            log: Vec::new(),
            faults,
            ran: 0,
            synced: 0,
            contents: 0,
            faulty: false,
            seen: Seen::default(),
            states: 0,
            distinct: HashSet::new(),
        }
    }

    /// Run generations of `steps` steps, each but the last ended by a power cut.
    pub(super) fn run(&mut self, generations: u32, steps: u32) -> Result<(), String> {
        for generation in 0..generations {
            if generation > 0 {
                self.cut()?;
            }
            if generation % 2 == 1 {
                self.repeat()?;
            }
            for _ in 0..steps {
                self.step()?;
            }
        }
        self.end()
    }

    fn step(&mut self) -> Result<(), String> {
        let idle: Vec<u16> = (0..5)
            .filter(|&id| !self.under_way.contains_key(&RequestId(id)))
            .collect();
        if !idle.is_empty() && (self.commands.is_empty() || self.random.u8(0..3) == 0) {
            if self.random.u8(0..40) == 0 {
                return self.call(|store, memory, out| store.commit(memory, out), None);
            }
            let id = RequestId(idle[self.random.usize(0..idle.len())]);
            let (request, content) = self.some_request(id);
            self.issue(request, content)
        } else if !self.commands.is_empty() {
            if self.random.u16(0..1000) < self.faults.dying {
                self.die()
            } else {
                self.run_one()
            }
        } else {
            Ok(())
        }
    }

    fn some_request(&mut self, id: RequestId) -> (Request, u32) {
        let sectors = self.model.len() as u64;
        let start = self.random.u64(0..sectors);
        let len = self.random.u64(1..=(LONGEST as u64).min(sectors - start));
        let (start, len) = match self.random.u8(0..3) {
            // A few hot chunks, as file systems have them.
            0 => (start % 6.min(sectors), 1),
            1 => (start / 2 * 2, len.min(4).div_ceil(2) * 2),
            _ => (start, len),
        };
        let len = len.min(sectors - start);
        let op = match self.random.u8(0..16) {
            0..8 => Op::Write,
            8..11 => Op::Read,
            11 => Op::Discard,
            12 => Op::WriteZeroes,
            _ => Op::Flush,
        };
        let content = match op {
            Op::Write if self.random.u8(0..8) > 0 => {
                self.contents += 1;
                self.contents
            }
            _ => 0,
        };
        let extent = Extent {
            offset: start * 512,
            len: len * 512,
        };
        let metadata = self.random.u8(0..5) == 0;
        (
            Request {
                id,
                op,
                extent,
                metadata,
            },
            content,
        )
    }

    fn issue(&mut self, request: Request, content: u32) -> Result<(), String> {
        let sectors = affected(&self.geometry, &request);
        let len = if request.op == Op::Flush {
            0
        } else {
            request.extent.len
        };
        let len = usize::try_from(len).unwrap();
        let buffer = &mut self.memory.requests[usize::from(request.id.0)][..len];
        let poison = request.op == Op::Read;
        fill(buffer, if poison { 0xffff_ffff } else { content });
        let changes = !matches!(request.op, Op::Read | Op::Flush);
        let (mut may_see, mut disturbed) = (Vec::new(), false);
        for sector in sectors.clone() {
            let mut values = self.model[sector].clone();
            for other in self
                .under_way
                .values()
                .filter(|other| changes_sectors(other))
            {
                if affected(&self.geometry, &other.request).contains(&sector) {
                    values.insert(other.content);
                    disturbed = true;
                }
            }
            may_see.push(values);
        }
        if changes {
            self.log.push((request, content));
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
        let covers = self.store.open_epoch() - u64::from(!self.store.has_open_changes());
        let under_way = UnderWay {
            request,
            content,
            may_see,
            disturbed,
            covers,
        };
        self.under_way.insert(request.id, under_way);
        self.call(
            |store, memory, out| store.submit(request, memory, out),
            Some(request.id),
        )
    }

    /// Call the store, and look what came of it.
    fn call(
        &mut self,
        what: impl FnOnce(&mut Cowfile<Words>, &mut Memory, &mut Outbox),
        _from: Option<RequestId>,
    ) -> Result<(), String> {
        let (open, may_be) = (self.store.open_epoch(), self.may_be());
        let mut out = Outbox::default();
        what(&mut self.store, &mut self.memory, &mut out);
        for epoch in open..self.store.open_epoch() {
            self.history.closed(epoch, may_be.clone());
            self.seen.count("epochs");
        }
        self.history.incarnation(self.store.incarnation());
        let unsynced = self.disk.unsynced();
        self.commands
            .extend(out.commands.into_iter().map(|command| Asked {
                command,
                unsynced,
                synced: self.synced,
            }));
        for (id, result) in out.done {
            self.done(id, result)?;
        }
        Ok(())
    }

    /// What each sector may hold in an epoch that ends now.
    fn may_be(&self) -> Sectors {
        let mut may_be = self.model.clone();
        for other in self
            .under_way
            .values()
            .filter(|other| changes_sectors(other))
        {
            for sector in affected(&self.geometry, &other.request) {
                may_be[sector].insert(other.content);
            }
        }
        may_be
    }

    fn done(&mut self, id: RequestId, result: Result<(), Failure>) -> Result<(), String> {
        let over = self
            .under_way
            .remove(&id)
            .ok_or("done, but not under way")?;
        let sectors = affected(&self.geometry, &over.request);
        match (over.request.op, result) {
            (_, Err(Failure::Io)) if !self.faulty => {
                Err(format!("{:?} failed for no reason", over.request))
            }
            (Op::Flush, Ok(())) => {
                if self.settings.durability == Durability::Flush {
                    self.history.promised = self.history.promised.max(over.covers);
                    self.seen.count("flushes");
                }
                Ok(())
            }
            (Op::Flush, Err(_)) if !self.faulty => Err("a flush failed for no reason".into()),
            (Op::Read | Op::Flush, Err(_)) => Ok(()),
            (Op::Read, Ok(())) => self.check_read(&over),
            (_, Ok(())) => {
                self.model[sectors].fill(BTreeSet::from([over.content]));
                Ok(())
            }
            (_, Err(failure)) => {
                self.seen.count(match failure {
                    Failure::NoSpace => "no space",
                    Failure::Io => "failed writes",
                });
                for values in &mut self.model[sectors] {
                    values.insert(over.content);
                }
                Ok(())
            }
        }
    }

    fn check_read(&mut self, over: &UnderWay) -> Result<(), String> {
        let first = affected(&self.geometry, &over.request).start;
        let buffer = &self.memory.requests[usize::from(over.request.id.0)];
        for (index, (sector, values)) in (first..).zip(&over.may_see).enumerate() {
            let content = content(&buffer[index * SECTOR..(index + 1) * SECTOR])
                .ok_or_else(|| format!("sector {sector} is torn"))?;
            if !values.contains(&content) {
                return Err(format!(
                    "sector {sector} reads {content}, may be {values:?}"
                ));
            }
            if !over.disturbed {
                self.model[sector] = BTreeSet::from([content]);
            }
        }
        Ok(())
    }

    fn run_one(&mut self) -> Result<(), String> {
        let next = self.random.usize(0..self.commands.len());
        if next > 0 {
            self.seen.count("out of order");
        }
        let asked = self.commands.swap_remove(next);
        let outcome = self.outcome(&asked);
        let id = asked.command.id;
        // What a cut may leave is most interesting before the store knows how it went.
        self.try_cuts()?;
        self.call(
            |store, memory, out| store.complete(id, outcome, memory, out),
            None,
        )
    }

    fn outcome(&mut self, asked: &Asked) -> Outcome {
        self.ran += 1;
        let action = asked.command.action;
        if self.faults.nth == Some(self.ran) || self.random.u16(0..1000) < self.faults.failing {
            self.faulty = true;
            self.seen.count("faults");
            match action {
                Action::SyncCow => self.failed_sync(asked),
                Action::GrowCow { .. } => {}
                _ if self.random.bool() => self.execute(action),
                _ => {}
            }
            return Err(match self.random.bool() {
                true => Failure::Io,
                false => Failure::NoSpace,
            });
        }
        let mut bytes = action.transfer_bytes();
        if bytes > SECTOR && self.random.u16(0..1000) < self.faults.short {
            bytes = self.random.usize(1..bytes / SECTOR + 1) * SECTOR;
        }
        match action {
            Action::SyncCow => {
                self.seen.count("syncs");
                let gone = usize::try_from(self.synced - asked.synced).unwrap();
                let count = asked.unsynced.saturating_sub(gone);
                self.disk.sync_first(count);
                self.synced += count as u64;
            }
            Action::GrowCow { offset, len } => {
                self.seen.count("growths");
                self.disk.grow(offset, len);
            }
            _ => self.execute(shorten(action, bytes)),
        }
        Ok(bytes)
    }

    fn failed_sync(&mut self, _asked: &Asked) {
        self.seen.count("failed syncs");
        self.synced += self.disk.unsynced() as u64;
        self.disk.drop_writes(&mut self.random);
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::ReadBase { offset, into } => {
                let start = usize::try_from(offset).unwrap();
                let bytes = self.base[start..start + into.len].to_vec();
                self.memory.bytes_mut(into).copy_from_slice(&bytes);
            }
            Action::ReadCow { offset, into } => {
                let fine = self.disk.read_at(offset, self.memory.bytes_mut(into));
                assert!(fine, "read beyond what was grown");
            }
            Action::WriteCow { offset, from } => {
                self.disk.write_at(offset, self.memory.bytes(from));
            }
            Action::PunchCow { .. } | Action::SyncCow | Action::GrowCow { .. } => {}
        }
    }

    fn try_cuts(&mut self) -> Result<(), String> {
        for _ in 0..self.faults.cuts {
            let cut = self.disk.any_cut(&mut self.random);
            let image = self.disk.after(cut, &mut self.random);
            self.check_image(&image)
                .map_err(|wrong| format!("{cut:?} of {} writes: {wrong}", self.disk.unsynced()))?;
        }
        Ok(())
    }

    /// Recover from an image: it must read as one epoch, whole.
    fn check_image(&mut self, image: &[u8]) -> Result<(Recovered, Vec<u32>), String> {
        self.states += 1;
        self.distinct
            .insert(crate::engine::format::page::checksum(image));
        let shape = self.shape;
        let mut medium = Image {
            shape,
            bytes: image,
        };
        let found = recover(&mut medium, shape, None)
            .map_err(|trouble| format!("not recovered: {trouble:?}"))?;
        if found.torn {
            self.seen.count("torn epochs dropped");
        }
        let contents = self.contents_of(&found, image)?;
        let incarnation = found.superblock.origin.incarnation;
        self.history.check(found.epoch, incarnation, &contents)?;
        Ok((found, contents))
    }

    /// What the device reads as, all of it, from what was recovered.
    fn contents_of(&self, found: &Recovered, image: &[u8]) -> Result<Vec<u32>, String> {
        let shape = self.shape;
        let mut medium = Image {
            shape,
            bytes: image,
        };
        let mut offline = Offline::new(found.clone());
        let mut contents = Vec::with_capacity(self.model.len());
        let mut bytes = vec![0; shape.chunk_len()];
        for chunk in 0..self.geometry.chunks() {
            let read = offline.read(&mut medium, chunk, &mut bytes);
            match read.map_err(|trouble| format!("chunk {chunk}: {trouble:?}"))? {
                Content::Read => {}
                Content::Zero => bytes.fill(0),
                Content::Absent => {
                    bytes.fill(0);
                    let start = usize::try_from(chunk).unwrap() * bytes.len();
                    let base = self.base.get(start..).unwrap_or_default();
                    let len = base.len().min(bytes.len());
                    bytes[..len].copy_from_slice(&base[..len]);
                }
            }
            for sector in bytes.chunks(SECTOR) {
                if contents.len() < self.model.len() {
                    contents.push(content(sector).ok_or(format!("chunk {chunk} is torn"))?);
                }
            }
        }
        Ok(contents)
    }

    /// The power goes, and comes back.
    fn cut(&mut self) -> Result<(), String> {
        let cut = self.disk.any_cut(&mut self.random);
        let image = self.disk.after(cut, &mut self.random);
        let (found, contents) = self.check_image(&image)?;
        self.seen.count("power cuts");
        let known = |content: u32| BTreeSet::from([content]);
        self.model = contents.into_iter().map(known).collect();
        let incarnation = found.superblock.origin.incarnation;
        self.history = History::after_cut(found.epoch, incarnation, self.model.clone());
        self.disk = Disk::holding(self.shape, image);
        self.synced = 0;
        self.commands.clear();
        self.under_way.clear();
        self.faulty = false;
        self.words = words(self.settings.staging_chunks);
        self.memory.staging.fill(0xbb);
        self.settings.random = self.random.u64(..);
        self.store = Cowfile::open(found, self.words.clone(), self.settings);
        Ok(())
    }

    /// Write again what was written before the cut, as a journalling file system does.
    fn repeat(&mut self) -> Result<(), String> {
        self.seen.count("repeated generations");
        let log = std::mem::take(&mut self.log);
        let from = log.len().saturating_sub(30);
        for (request, content) in log.into_iter().skip(from) {
            while self.under_way.contains_key(&request.id) {
                if self.commands.is_empty() {
                    return Err("a request waits for nothing".into());
                }
                self.run_one()?;
            }
            self.issue(request, content)?;
        }
        Ok(())
    }

    /// The process dies: what was asked for may have happened or not; what happened stays, in the cache.
    fn die(&mut self) -> Result<(), String> {
        self.seen.count("deaths");
        for asked in std::mem::take(&mut self.commands) {
            let action = asked.command.action;
            if matches!(action, Action::WriteCow { .. }) && self.random.bool() {
                let bytes = action.transfer_bytes();
                let part = self.random.usize(0..=bytes / SECTOR) * SECTOR;
                let done = if self.random.bool() { bytes } else { part };
                self.execute(shorten(action, done));
            }
            if let (Action::GrowCow { offset, len }, true) = (action, self.random.bool()) {
                self.disk.grow(offset, len);
            }
            if action == Action::SyncCow && self.random.bool() {
                // The sync may have failed, and nobody was there to be told.
                self.failed_sync(&asked);
            }
        }
        let lost = std::mem::take(&mut self.under_way);
        for over in lost.values().filter(|over| changes_sectors(over)) {
            for sector in affected(&self.geometry, &over.request) {
                self.model[sector].insert(over.content);
            }
        }
        for page in self.memory.scratch.iter_mut() {
            page.fill(0xaa);
        }
        let pool = (self.settings.staging_chunks as usize) << self.shape.chunk_shift;
        self.memory.staging[pool..].fill(0xaa);
        let durable = self.left_behind()?;
        let found = recover(&mut self.disk.clone(), self.shape, Some(durable))
            .map_err(|trouble| format!("after a death: {trouble:?}"))?;
        self.settings.random = self.random.u64(..);
        self.store = Cowfile::resume(found, self.words.clone(), self.settings)
            .map_err(|damage| format!("after a death: {damage:?}"))?;
        // What was closing when the last process died is committed by this one as it was.
        self.history.next_process(self.store.open_epoch() - 1);
        self.check_by_reading()?;
        if self.random.bool() {
            for (_, over) in lost {
                self.issue(over.request, over.content)?;
            }
        }
        Ok(())
    }

    fn left_behind(&self) -> Result<Durable, String> {
        let chunks = self.settings.staging_chunks;
        Staging::open(self.words.clone(), [7; 16], chunks, self.shape.fanout_shift)
            .map(|staging| staging.durable())
            .map_err(|damage| format!("after a death: {damage:?}"))
    }

    /// Read the whole device through requests.
    fn check_by_reading(&mut self) -> Result<(), String> {
        let faults = std::mem::take(&mut self.faults);
        let sectors = self.model.len() as u64;
        for start in (0..sectors).step_by(LONGEST) {
            let extent = Extent {
                offset: start * 512,
                len: (sectors - start).min(LONGEST as u64) * 512,
            };
            let id = RequestId(0);
            let request = Request {
                id,
                op: Op::Read,
                extent,
                metadata: false,
            };
            self.issue(request, 0)?;
            while self.under_way.contains_key(&id) {
                if self.commands.is_empty() {
                    return Err("a read waits for nothing".into());
                }
                self.run_one()?;
            }
        }
        self.faults = faults;
        Ok(())
    }

    /// Nothing goes wrong any more: all that was acknowledged is there, and the store closes.
    fn end(&mut self) -> Result<(), String> {
        self.faults = Faults::default();
        self.drain()?;
        if self.store.broken().is_some() {
            self.seen.count("broken stores");
            if !self.faulty {
                return Err("the store is broken for no reason".into());
            }
            return Ok(());
        }
        self.check_by_reading()?;
        let full = self.store.usage();
        if full.used * 10 > full.capacity * 9 {
            self.seen.count("ends full");
        }
        self.call(|store, memory, out| store.close(memory, out), None)?;
        self.drain()?;
        if !self.store.is_closed() {
            return Err("the store does not close".into());
        }
        if self.store.broken().is_some() {
            return Err("the store broke while it closed".into());
        }
        let contents = self.check_closed()?;
        match differs(&self.model, &contents) {
            None => Ok(()),
            Some(sector) => Err(format!("after closing, sector {sector} is wrong")),
        }
    }

    fn check_closed(&mut self) -> Result<Vec<u32>, String> {
        let image = self.disk.seen().to_vec();
        let (_, contents) = self.check_image(&image)?;
        if !self.faulty && self.store.usage().staged > 0 {
            return Err("closed, and something is not durable".into());
        }
        Ok(contents)
    }

    fn drain(&mut self) -> Result<(), String> {
        while !self.commands.is_empty() {
            self.run_one()?;
        }
        if self.under_way.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{} requests wait for nothing: {:?}",
            self.under_way.len(),
            self.under_way
                .values()
                .map(|u| u.request)
                .collect::<Vec<_>>()
        ))
    }
}

fn words(staging_chunks: u32) -> Words {
    (0..Staging::<Words>::words_needed(staging_chunks))
        .map(|_| AtomicU32::new(0))
        .collect()
}

fn changes_sectors(over: &UnderWay) -> bool {
    !matches!(over.request.op, Op::Read | Op::Flush)
}

/// The sectors a request reads or changes.
fn affected(geometry: &Geometry, request: &Request) -> std::ops::Range<usize> {
    let sector = |byte: u64| usize::try_from(byte / 512).unwrap();
    match request.op {
        Op::Flush => 0..0,
        Op::Discard => {
            let whole = geometry.pieces(request.extent).whole;
            let bytes = geometry.chunk_bytes;
            sector(whole.start * bytes)..sector((whole.end * bytes).min(geometry.device_bytes))
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
        other => other,
    }
}

fn fill(bytes: &mut [u8], content: u32) {
    bytes
        .chunks_mut(4)
        .for_each(|word| word.copy_from_slice(&content.to_le_bytes()[..word.len()]));
}

/// The number that fills a sector, if one does.
fn content(sector: &[u8]) -> Option<u32> {
    let word: [u8; 4] = *sector.first_chunk()?;
    sector
        .chunks(4)
        .all(|other| other == &word[..other.len()])
        .then(|| u32::from_le_bytes(word))
}
