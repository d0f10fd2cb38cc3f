//! One simulated machine: a store on a disk, requests in random order, and everything that goes wrong.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::disk::{Disk, Seen};
use super::history::{History, Sectors};
use super::layers::{Change, Others};
use super::machine::{Faults, Words, words};
use super::some::{some_base, some_disk, some_settings};
use crate::engine::command::{Action, Command, Failure, Op, Outbox, Request, RequestId};
use crate::engine::cowfile::found::Standing;
use crate::engine::cowfile::recover::recover;
use crate::engine::cowfile::{Cowfile, Durability, Settings, scratch_chunks};
use crate::engine::format::Shape;
use crate::engine::plan::Geometry;
use crate::engine::simulation::machine::{Memory, SECTOR, affected, changes_sectors, fill};

pub(super) const DEPTH: usize = 5;
pub(super) const LONGEST: usize = 24;

#[derive(Debug, Clone)]
pub(super) struct UnderWay {
    pub(super) request: Request,
    pub(super) content: u32,
    pub(super) may_see: Sectors,
    /// Something changed the sectors of a read while it was under way.
    pub(super) disturbed: bool,
    /// A flush covers this epoch.
    pub(super) covers: u64,
    /// Commands that had ended when it came.
    pub(super) since: u64,
}

/// A command, and how many writes had ended when it was asked for.
pub(super) struct Asked {
    pub(super) command: Command,
    pub(super) unsynced: usize,
    /// It takes its time.
    pub(super) slow: bool,
    /// Syncs that ended since move what was written before.
    pub(super) synced: u64,
}

pub(super) struct World {
    pub(super) random: fastrand::Rng,
    pub(super) shape: Shape,
    pub(super) settings: Settings,
    pub(super) geometry: Geometry,
    pub(super) base: Vec<u8>,
    pub(super) disk: Disk,
    pub(super) words: Words,
    pub(super) memory: Memory,
    pub(super) store: Cowfile<Words>,
    /// What each sector may read as now.
    pub(super) model: Sectors,
    pub(super) history: History,
    pub(super) under_way: BTreeMap<RequestId, UnderWay>,
    pub(super) commands: Vec<Asked>,
    /// Writes since the last power cut, to repeat.
    pub(super) log: Vec<(Request, u32)>,
    pub(super) faults: Faults,
    pub(super) ran: u64,
    /// Writes that syncs have taken off the front of the disk's list.
    pub(super) synced: u64,
    pub(super) contents: u32,
    pub(super) traced: bool,
    pub(super) faulty: bool,
    /// A sync failed and nobody was told, since the last power cut.
    pub(super) lied: bool,
    /// What the device reads as with nothing written to it.
    pub(super) base_model: Sectors,
    pub(super) others: Others,
    pub(super) change: Option<Change>,
    /// The layer below one whose superblock was found in what may be no more than a cache: a power cut may end that one.
    pub(super) begun_in_cache: Option<u8>,
    /// The last command that failed, counted as `ran`.
    pub(super) fault_at: u64,
    /// There is room for every chunk of the device, so none may be refused.
    pub(super) roomy: bool,
    max_slots: u32,
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
        let settings = some_settings(&mut random, shape, staging_chunks, seed);
        let (base, model) = some_base(&mut random, &geometry);
        let sizes = (max_slots, grown_slots);
        let mut disk = some_disk(&mut random, shape, &geometry, sizes);
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
            base_model: model.clone(),
            model,
            history,
            under_way: BTreeMap::new(),
            commands: Vec::new(),
            log: Vec::new(),
            faults,
            ran: 0,
            synced: 0,
            contents: 0,
            traced: std::env::var_os("COWROOT_TRACE").is_some(),
            faulty: false,
            lied: false,
            others: Others::new(),
            change: None,
            begun_in_cache: None,
            fault_at: 0,
            roomy: false,
            max_slots,
            seen: Seen::default(),
            states: 0,
            distinct: HashSet::new(),
        }
    }

    /// Run generations of `steps` steps, each but the last ended by a power cut.
    pub(super) fn run(&mut self, generations: u32, steps: u32) -> Result<(), String> {
        self.measure();
        for generation in 0..generations {
            if generation > 0 {
                self.end_generation()?;
            }
            if generation % 2 == 1 {
                self.repeat()?;
            }
            self.steps(steps)?;
        }
        self.end()
    }

    pub(super) fn steps(&mut self, count: u32) -> Result<(), String> {
        (0..count).try_for_each(|_| self.step())
    }

    /// Look whether all chunks of all layers fit, with trees, journal, and all that is kept free.
    pub(super) fn measure(&mut self) {
        let (shape, settings) = (self.shape, &self.settings);
        let chunks = self.geometry.chunks();
        let height = u64::from(shape.height(chunks));
        let pages: u64 = (1..=height)
            .map(|level| chunks.div_ceil(1 << (u64::from(shape.fanout_shift) * level)))
            .sum();
        let layers = self.others.len() as u64 + 1 + u64::from(self.change.is_some());
        let batch = u64::from(settings.staging_chunks);
        let reserves = 4 * (2 * height + 1) + batch * (2 + height) + 3 * height;
        // The tail, one change more, a new journal, and headers of sibling files.
        let reserves = reserves + u64::from(settings.metadata_reserve) + 30;
        let slots = u64::from(self.max_slots - shape.first_slot());
        self.roomy = slots >= layers * (chunks + pages) + reserves;
    }

    fn step(&mut self) -> Result<(), String> {
        let idle: Vec<u16> = (0..5)
            .filter(|&id| !self.under_way.contains_key(&RequestId(id)))
            .collect();
        if !idle.is_empty() && (self.commands.is_empty() || self.random.u8(0..3) == 0) {
            if self.random.u16(0..400) == 0 {
                return self.begin_layer();
            }
            if self.random.u8(0..40) == 0 {
                return self.call(|store, memory, out| store.commit(memory, out), None);
            }
            let id = RequestId(idle[self.random.usize(0..idle.len())]);
            let (request, content) = self.some_request(id);
            self.issue(request, content)
        } else if self.commands.is_empty() {
            self.give_up_waiting()?;
            match self.commands.is_empty() && self.under_way.len() == DEPTH {
                true => Err(format!("all requests wait for nothing: {}", self.stuck())),
                false => Ok(()),
            }
        } else if self.random.u16(0..1000) < self.faults.dying {
            self.die()
        } else {
            self.run_one()
        }
    }

    pub(super) fn issue(&mut self, request: Request, content: u32) -> Result<(), String> {
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
                .filter(|other| changes_sectors(&other.request))
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
            since: self.ran,
        };
        self.under_way.insert(request.id, under_way);
        self.call(
            |store, memory, out| store.submit(request, memory, out),
            Some(request.id),
        )
    }

    /// Call the store, and look what came of it.
    pub(super) fn call(
        &mut self,
        what: impl FnOnce(&mut Cowfile<Words>, &mut Memory, &mut Outbox),
        _from: Option<RequestId>,
    ) -> Result<(), String> {
        let (open, may_be) = (self.store.open_epoch(), self.may_be());
        let mut out = Outbox::default();
        what(&mut self.store, &mut self.memory, &mut out);
        for epoch in open..self.store.open_epoch() {
            self.history.closed(epoch, may_be.clone());
            self.seal_at(epoch, &may_be);
            self.seen.count("epochs");
        }
        self.history.incarnation(self.store.incarnation());
        if self.store.standing == Standing::Durable {
            self.begun_in_cache = None;
        }
        let unsynced = self.disk.unsynced();
        for command in out.commands {
            // Reads of bad sectors do: long enough for much else to happen.
            let slow =
                matches!(command.action, Action::ReadCow { .. }) && self.random.u8(0..6) == 0;
            self.commands.push(Asked {
                command,
                unsynced,
                slow,
                synced: self.synced,
            });
        }
        for (id, result) in out.done {
            self.done(id, result)?;
        }
        let unwritten = self.store.has_open_changes() || self.store.staging.closing().is_some();
        match unwritten && self.store.is_closed() && self.store.broken().is_none() {
            true => Err("it says that it is closed, and something is not written".into()),
            false => Ok(()),
        }
    }

    /// What each sector may hold in an epoch that ends now.
    pub(super) fn may_be(&self) -> Sectors {
        let mut may_be = self.model.clone();
        for other in self
            .under_way
            .values()
            .filter(|other| changes_sectors(&other.request))
        {
            for sector in affected(&self.geometry, &other.request) {
                may_be[sector].insert(other.content);
            }
        }
        may_be
    }

    pub(super) fn done(
        &mut self,
        id: RequestId,
        result: Result<(), Failure>,
    ) -> Result<(), String> {
        let over = self
            .under_way
            .remove(&id)
            .ok_or("done, but not under way")?;
        let sectors = affected(&self.geometry, &over.request);
        // A command failed while it was under way, or no write succeeds any more.
        let excused = self.faulty && self.fault_at >= over.since
            || self.store.broken().is_some()
            || self.store.closing_down;
        let is_full = result == Err(Failure::NoSpace) && over.request.op != Op::Read;
        if result.is_err() && !excused && !(is_full && (self.faulty || !self.roomy)) {
            return Err(format!("{:?} for no reason: {result:?}", over.request));
        }
        match (over.request.op, result) {
            (Op::Flush, Ok(())) => {
                if self.settings.durability == Durability::Flush {
                    self.history.promised = self.history.promised.max(over.covers);
                    self.seen.count("flushes");
                }
                Ok(())
            }
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
}
