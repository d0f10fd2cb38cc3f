//! A cowfile with some sessions, its base, and what all of it must read as.

use std::cell::RefCell;
use std::rc::Rc;

use super::disk::{Disk, Handle, Machine, Which};
use super::reads::{check, describe};
use crate::engine::command::{Op, Request, RequestId};
use crate::engine::cowfile::create::{self, Plan};
use crate::engine::cowfile::layers::merging;
use crate::engine::cowfile::layers::{self, Edit};
use crate::engine::cowfile::recover::{Recovered, recover};
use crate::engine::format::Shape;
use crate::engine::format::page::Origin;
use crate::engine::format::superblock::{Merge, MergeState, Superblock};
use crate::engine::merge::settle::{self, settle};
use crate::engine::merge::{self, How, Media, Stopped, output, undo};
use crate::engine::units::Extent;

pub(super) const STORE: [u8; 16] = [7; 16];
const BATCH: u64 = 5;
/// Commands in which whoever goes on has begun to write the base.
const SOON: u64 = 24;

/// What the device, and each layer with those below it, reads as.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) device: Vec<u8>,
    /// By number.
    pub(super) below: Vec<(u8, Vec<u8>)>,
}

pub(super) struct World {
    pub(super) machine: Rc<RefCell<Machine>>,
    pub(super) model: Rc<RefCell<Model>>,
    pub(super) random: fastrand::Rng,
    pub(super) shape: Shape,
    pub(super) states: Rc<RefCell<u64>>,
    next: u32,
    /// A process ended, and what it wrote is in the cache: the power may go before who goes on has made that durable.
    is_cached: bool,
}

/// An empty layer on the one that takes the writes.
fn begin(cow: &mut Handle, found: &Recovered) -> Result<Superblock, String> {
    let on = Some(found.superblock.active_layer);
    layers::planned(found, Edit::Begin(on))
        .and_then(|planned| layers::write(cow, found, planned))
        .map_err(|why| format!("{why:?}"))
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let shape = Shape {
            chunk_shift: [10, 12][random.usize(0..2)],
            fanout_shift: random.u8(2..=4),
            zone_slots: 8,
        };
        let chunks = random.u64(20..=90);
        let device_bytes = chunks * shape.chunk_bytes() - 512 * random.u64(0..2);
        let base_bytes = match random.u8(0..3) {
            0 => device_bytes - random.u64(1..512),
            1 => device_bytes / 2 + random.u64(0..1000),
            _ => device_bytes,
        };
        let mut base = vec![0; usize::try_from(base_bytes).unwrap()];
        for (number, sector) in (1u32..).zip(base.chunks_mut(512)) {
            if random.u8(0..5) > 0 {
                sector.fill_with(|| number.to_le_bytes()[random.usize(0..2)]);
            }
        }
        let plan = Plan {
            origin: Origin {
                store: STORE,
                incarnation: seed | 1,
            },
            shape,
            device_bytes,
            base_bytes,
            max_slots: 700,
            grown_slots: 120,
            file_slots: 1000,
            description: describe(&base),
        };
        let mut device = base.clone();
        device.resize(usize::try_from(device_bytes).unwrap(), 0);
        let cow = vec![0; 120 << shape.chunk_shift];
        let machine = Machine {
            shape,
            disks: [cow, base, Vec::new(), Vec::new()].map(Disk::holding),
            named: (false, false),
            random: random.fork(),
            left: u64::MAX,
            log_syncs: None,
            ran: 0,
            wrong: None,
            look: None,
        };
        let world = Self {
            machine: Rc::new(RefCell::new(machine)),
            model: Rc::new(RefCell::new(Model {
                device,
                below: Vec::new(),
            })),
            random,
            shape,
            states: Rc::default(),
            next: 1,
            is_cached: false,
        };
        create::create(&mut world.handle(Which::Cow), plan).unwrap();
        world
    }

    pub(super) fn handle(&self, which: Which) -> Handle {
        Handle(Rc::clone(&self.machine), which)
    }

    pub(super) fn open(&self) -> Result<Recovered, String> {
        let found = recover(&mut self.handle(Which::Cow), self.shape, None);
        found.map_err(|trouble| format!("open: {trouble:?}"))
    }

    pub(super) fn bytes(&self, which: Which) -> Vec<u8> {
        self.machine.borrow().disk(which).seen().to_vec()
    }

    /// A session is served: its writes go where they should, and it is closed or left.
    pub(super) fn serve(&mut self) -> Result<(), String> {
        let mut cow = self.handle(Which::Cow);
        let mut found = self.open()?;
        if merge::needs_layer(&found.superblock) {
            found =
                settle(&mut cow, found, 8, self.random.u64(..)).map_err(|e| format!("{e:?}"))?;
            begin(&mut cow, &found)?;
            found = self.open()?;
        }
        if let Some(superblock) = merging::aged(&found.superblock)
            && found.superblock.clean
        {
            merging::age(&mut cow, &found, superblock).map_err(|e| format!("{e:?}"))?;
            found = self.open()?;
        }
        let layer = found.superblock.active_layer;
        let merge = found.superblock.merge;
        let is_merging = merge.state == MergeState::UnderWay && merge.top == layer;
        let changes = self.some_changes(&found);
        let is_closed = self.random.u8(0..4) > 0;
        settle::change(&mut cow, found, self.random.u64(..), &changes, is_closed);
        // What is being merged is what it was when that began.
        if is_merging {
            return Ok(());
        }
        let mut model = self.model.borrow_mut();
        let device = model.device.clone();
        model.below.retain(|(number, _)| *number != layer);
        model.below.push((layer, device));
        Ok(())
    }

    fn some_changes(&mut self, found: &Recovered) -> Vec<(Request, Vec<u8>)> {
        let chunk = self.shape.chunk_len();
        let chunks = usize::try_from(found.superblock.chunks()).unwrap();
        let mut model = self.model.borrow_mut();
        let device_bytes = model.device.len();
        let mut changes = Vec::new();
        for _ in 0..self.random.usize(1..12) {
            let first = self.random.usize(0..chunks);
            let count = self.random.usize(1..=6.min(chunks - first));
            let (start, end) = (first * chunk, ((first + count) * chunk).min(device_bytes));
            let op = [Op::Write, Op::Write, Op::WriteZeroes, Op::Discard][self.random.usize(0..4)];
            let mut bytes = vec![0; end - start];
            if op == Op::Write {
                for sector in bytes.chunks_mut(512) {
                    self.next += 1;
                    let number = self.next | 0x8000_0000;
                    sector
                        .chunks_mut(4)
                        .for_each(|word| word.copy_from_slice(&number.to_le_bytes()[..word.len()]));
                }
            }
            let place = &mut model.device[start..end];
            place.copy_from_slice(&bytes);
            let request = Request {
                id: RequestId(0),
                op,
                extent: Extent {
                    offset: start as u64,
                    len: (end - start) as u64,
                },
                metadata: false,
            };
            changes.push((request, bytes));
        }
        changes
    }

    /// Close it, and begin a layer on what is there.
    pub(super) fn seal(&mut self) -> Result<(), String> {
        let mut cow = self.handle(Which::Cow);
        let found = settle(&mut cow, self.open()?, 8, self.random.u64(..));
        let found = found.map_err(|e| format!("{e:?}"))?;
        let superblock = begin(&mut cow, &found)?;
        let mut model = self.model.borrow_mut();
        let device = model.device.clone();
        model.below.push((superblock.active_layer, device));
        Ok(())
    }

    /// What a power cut now could leave reads as it should; before every command.
    pub(super) fn watch(&mut self, cuts: u32) {
        let (shape, model) = (self.shape, Rc::clone(&self.model));
        let states = Rc::clone(&self.states);
        let look = move |machine: &Machine, random: &mut fastrand::Rng| {
            for _ in 0..cuts {
                *states.borrow_mut() += 1;
                let (cow, base) = (
                    machine.disk(Which::Cow).cut(random),
                    machine.disk(Which::Base).cut(random),
                );
                check(shape, &cow, &base, &model.borrow().device)?;
                let named = machine.named.1 || machine.named.0 && random.bool();
                let image = machine.disk(Which::Image).cut(random);
                let is_one = |wanted: &(u8, Vec<u8>)| wanted.1 == image;
                if named && !model.borrow().below.iter().any(is_one) {
                    return Err("the new image is not whole".into());
                }
            }
            Ok(())
        };
        self.machine.borrow_mut().look = Some(Box::new(look));
    }

    /// Let the power go after some commands, or only the process, and see what comes of `act`: whether it was over
    /// before.
    pub(super) fn with_cut(
        &mut self,
        most: u64,
        act: impl FnOnce(&mut Self) -> Result<(), Stopped>,
    ) -> Result<bool, String> {
        self.machine.borrow_mut().left = match self.random.u8(0..4) {
            0 => u64::MAX,
            _ if self.is_cached => self.random.u64(0..SOON),
            _ => self.random.u64(0..most),
        };
        self.watch(2);
        let result = act(self);
        let mut machine = self.machine.borrow_mut();
        machine.look = None;
        if let Some(wrong) = machine.wrong.take() {
            return Err(wrong);
        }
        let is_cut = machine.left == 0;
        machine.left = u64::MAX;
        match result {
            Ok(()) => return Ok(true),
            Err(stopped) if !is_cut => return Err(format!("{stopped:?} for no reason")),
            Err(_) => self.is_cached = machine.random.u8(0..3) == 0,
        }
        if !self.is_cached {
            machine.cut();
        }
        drop(machine);
        let (cow, base) = (self.bytes(Which::Cow), self.bytes(Which::Base));
        check(self.shape, &cow, &base, &self.model.borrow().device)?;
        Ok(false)
    }

    /// The process ends when a record of the undo log is written and not durable yet; whoever goes on may be cut soon.
    pub(super) fn end_before_a_record_is_durable(&mut self, merge: Merge) -> Result<(), String> {
        // The first sync is the head's.
        self.machine.borrow_mut().log_syncs = Some(self.random.u32(1..4));
        self.watch(2);
        let merged = self.merge(merge);
        let mut machine = self.machine.borrow_mut();
        (machine.look, machine.log_syncs) = (None, None);
        self.is_cached = machine.left == 0;
        if let (Err(stopped), false) = (merged, self.is_cached) {
            return Err(format!("{stopped:?} for no reason"));
        }
        machine.left = u64::MAX;
        machine.wrong.take().map_or(Ok(()), Err)
    }

    pub(super) fn settled(&mut self) -> Result<Recovered, Stopped> {
        let mut cow = self.handle(Which::Cow);
        let found = recover(&mut cow, self.shape, None).map_err(Stopped::Session)?;
        settle(&mut cow, found, 8, self.random.u64(..))
            .map_err(|wrong| Stopped::Unknown(format!("{wrong:?}")))
    }

    /// As the command does it.
    pub(super) fn merge(&mut self, wanted: Merge) -> Result<(), Stopped> {
        let (mut cow, mut base) = (self.handle(Which::Cow), self.handle(Which::Base));
        let mut log = self.handle(Which::Log);
        let found = self.settled()?;
        let superblock = &found.superblock;
        let before = superblock.merge;
        let is_resumed = before.state == MergeState::UnderWay;
        let merge = match is_resumed {
            true => Merge {
                is_logged: wanted.is_logged,
                id: wanted.id,
                ..before
            },
            false => wanted,
        };
        let how = How {
            top: merge.top,
            batch_chunks: BATCH,
            zeros: 1,
        };
        merge::scrub(&mut cow, &found, how, &mut |_| {})?;
        let mut kept = match (merge.is_logged, is_resumed) {
            (false, _) => None,
            (true, true) => Some((undo::Log::open(&mut log)?, log)),
            (true, false) => {
                let head = undo::Head {
                    store: STORE,
                    id: merge.id,
                    chunk_shift: self.shape.chunk_shift,
                    base_bytes: crate::engine::merge::BaseMut::size_bytes(&mut base),
                    description: superblock.description.clone(),
                    paths: b"base\0cow\0".to_vec(),
                };
                Some((undo::Log::create(&mut log, head)?, log))
            }
        };
        let machine = Rc::clone(&self.machine);
        let media = Media {
            cow: &mut cow,
            base: &mut base,
            log: kept.as_mut().map(|(log, file)| (log, file)),
        };
        merge::run(
            media,
            found,
            (merge, BATCH),
            &mut |_| Ok(describe(machine.borrow().disk(Which::Base).seen())),
            &mut |_| {},
        )
        .map(drop)
    }

    pub(super) fn take_back(&mut self) -> Result<(), Stopped> {
        let (mut cow, mut base) = (self.handle(Which::Cow), self.handle(Which::Base));
        let mut file = self.handle(Which::Log);
        let found = self.settled()?;
        let mut log = undo::Log::open(&mut file)?;
        let description = log.head().description.clone();
        let media = Media {
            cow: &mut cow,
            base: &mut base,
            log: Some((&mut log, &mut file)),
        };
        merge::take_back(media, &found, description, &mut |_| {})
    }

    pub(super) fn output(&mut self, top: u8, is_resumed: bool) -> Result<(), Stopped> {
        let (mut cow, mut base) = (self.handle(Which::Cow), self.handle(Which::Base));
        let found = recover(&mut cow, self.shape, None).map_err(Stopped::Session)?;
        let how = How {
            top,
            batch_chunks: BATCH,
            zeros: 1,
        };
        let mut image = self.handle(Which::Image);
        output::run(
            &mut cow,
            &found,
            (&mut base, &mut image),
            (how, is_resumed),
            &mut |_| {},
        )
    }
}
