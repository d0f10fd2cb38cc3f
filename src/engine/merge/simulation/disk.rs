//! A simulated machine: cowfile, base, undo log and new image, each on a disk that loses what was not synced.
//!
//! Every call is a command. Before each the images that a power cut could leave are looked at; and at one the power
//! goes: all calls from there on fail.

use std::cell::RefCell;
use std::rc::Rc;

use crate::engine::command::Failure;
use crate::engine::cowfile::create::MediumMut;
use crate::engine::cowfile::recover::Medium;
use crate::engine::format::Shape;
use crate::engine::format::page::Origin;
use crate::engine::merge::BaseMut;
use crate::engine::merge::output::{Image, Source};

pub(super) const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

/// What is durable, and what was done since the last sync.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    durable: Vec<u8>,
    changes: Vec<Change>,
    seen: Vec<u8>,
    /// A byte of a sector that was being written when the power went: none of it reads until it is written.
    bad: Option<usize>,
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>, mut keeps: impl FnMut() -> bool) {
        match self {
            Self::Size(size) if keeps() => image.resize(*size, 0),
            Self::Size(_) => {}
            Self::Write(start, bytes) => {
                for (at, sector) in (*start..).step_by(SECTOR).zip(bytes.chunks(SECTOR)) {
                    // What lies behind the end of a file is not part of it.
                    let end = (at + sector.len()).min(image.len());
                    if at < end && keeps() {
                        image[at..end].copy_from_slice(&sector[..end - at]);
                    }
                }
            }
        }
    }
}

impl Disk {
    pub(super) fn holding(bytes: Vec<u8>) -> Self {
        Self {
            durable: bytes.clone(),
            changes: Vec::new(),
            seen: bytes,
            bad: None,
        }
    }

    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen, || true);
        if let Change::Write(start, bytes) = &change {
            let is_written = |at: &usize| (*start..start + bytes.len()).contains(at);
            self.bad = self.bad.filter(|at| !is_written(at));
        }
        self.changes.push(change);
    }

    /// The power goes. If a sector may be `spoilt`, one that was being written is now and then.
    fn lose(&mut self, random: &mut fastrand::Rng, spoilt: bool) {
        let bad = self.changes.iter().rev().find_map(|change| match change {
            Change::Write(start, bytes) if !bytes.is_empty() => Some(*start),
            _ => None,
        });
        let bad = bad.filter(|_| spoilt && random.u8(0..3) == 0).or(self.bad);
        let left = Self::holding(self.cut(random));
        let bad = bad.filter(|at| *at < left.seen.len());
        *self = Self { bad, ..left };
    }

    /// What a cut leaves of it.
    pub(super) fn cut(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut image = self.durable.clone();
        let count = self.changes.len();
        let one = random.usize(0..=count);
        let kind = random.u8(0..7);
        for (number, change) in self.changes.iter().enumerate() {
            let torn = |random: &mut fastrand::Rng| random.bool();
            change.apply(&mut image, || match kind {
                0 => false,
                1 => true,
                2 => number == one,
                3 => number != one,
                4 => number < one || number == one && torn(random),
                _ => torn(random),
            });
        }
        image
    }
}

/// Which disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Cow,
    Base,
    Log,
    Image,
}

/// What looks at a machine before each of its commands.
pub(super) type Look = dyn FnMut(&Machine, &mut fastrand::Rng) -> Result<(), String>;

pub(super) struct Machine {
    pub(super) shape: Shape,
    pub(super) disks: [Disk; 4],
    /// The new image has its name; durably, or not known.
    pub(super) named: (bool, bool),
    pub(super) random: fastrand::Rng,
    /// Commands until the power goes.
    pub(super) left: u64,
    /// Syncs of the undo log until the process ends, before one; `None`: it does not.
    pub(super) log_syncs: Option<u32>,
    pub(super) ran: u64,
    pub(super) wrong: Option<String>,
    pub(super) look: Option<Box<Look>>,
}

impl Machine {
    pub(super) fn disk(&self, which: Which) -> &Disk {
        &self.disks[which as usize]
    }

    fn tick(&mut self) -> Result<(), Failure> {
        self.ran += 1;
        if self.left == 0 {
            return Err(Failure::Io);
        }
        self.left -= 1;
        if let Some(mut look) = self.look.take() {
            let mut random = self.random.fork();
            if let Err(wrong) = look(self, &mut random) {
                self.wrong
                    .get_or_insert(format!("command {}: {wrong}", self.ran));
                self.left = 0;
            }
            self.look = Some(look);
        }
        Ok(())
    }

    /// The power goes: what is left on each disk, on its own.
    pub(super) fn cut(&mut self) {
        let mut random = self.random.fork();
        for (number, disk) in self.disks.iter_mut().enumerate() {
            disk.lose(&mut random, number == Which::Base as usize);
        }
        let named = self.named.1 || self.named.0 && random.bool();
        self.named = (named, named);
    }
}

/// One disk of a machine, as the engine sees it.
#[derive(Clone)]
pub(super) struct Handle(pub(super) Rc<RefCell<Machine>>, pub(super) Which);

impl Handle {
    fn act<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> Result<T, Failure> {
        let mut machine = self.0.borrow_mut();
        machine.tick()?;
        Ok(act(&mut machine.disks[self.1 as usize]))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Failure> {
        let machine = self.0.borrow();
        let start = usize::try_from(offset).unwrap();
        let disk = &machine.disks[self.1 as usize];
        let place = start..start + into.len();
        if disk.bad.is_some_and(|bad| place.contains(&bad)) {
            return Err(Failure::Io);
        }
        into.copy_from_slice(disk.seen.get(place).ok_or(Failure::Io)?);
        Ok(())
    }

    fn sync_all(&self) -> Result<(), Failure> {
        let mut machine = self.0.borrow_mut();
        if let Some(syncs) = machine.log_syncs.filter(|_| self.1 == Which::Log) {
            machine.log_syncs = syncs.checked_sub(1);
            if syncs == 0 {
                machine.left = 0;
            }
        }
        drop(machine);
        self.act(|disk| {
            disk.durable.clone_from(&disk.seen);
            disk.changes.clear();
        })
    }
}

impl BaseMut for Handle {
    fn size_bytes(&mut self) -> u64 {
        self.0.borrow().disk(self.1).seen.len() as u64
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Failure> {
        self.read_at(offset, into)
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), Failure> {
        let start = usize::try_from(offset).unwrap();
        self.act(|disk| {
            assert!(start + from.len() <= disk.seen.len(), "within the size");
            disk.change(Change::Write(start, from.to_vec()));
        })
    }

    fn zero(&mut self, offset: u64, len: u64) -> Result<(), Failure> {
        BaseMut::write(self, offset, &vec![0; usize::try_from(len).unwrap()])
    }

    fn resize(&mut self, size_bytes: u64) -> Result<(), Failure> {
        self.act(|disk| disk.change(Change::Size(usize::try_from(size_bytes).unwrap())))
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.sync_all()
    }

    fn forget(&mut self, _: u64, _: u64) {}
}

impl Source for Handle {
    fn size_bytes(&mut self) -> u64 {
        BaseMut::size_bytes(self)
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Failure> {
        self.read_at(offset, into)
    }
}

impl Image for Handle {
    fn share(&mut self) -> bool {
        if self.0.borrow_mut().random.bool() {
            return false;
        }
        let base = self.0.borrow().disk(Which::Base).seen.clone();
        self.act(|disk| {
            disk.change(Change::Size(base.len()));
            disk.change(Change::Write(0, base));
        })
        .is_ok()
    }

    fn take(&mut self, start: u64, end: u64) -> bool {
        let kind = self.0.borrow_mut().random.u8(0..3);
        // Some of it, and then it cannot.
        let end = if kind == 1 {
            start + (end - start) / 2
        } else {
            end
        };
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        let is_taken = kind > 0
            && Source::read(
                &mut Self(Rc::clone(&self.0), Which::Base),
                start,
                &mut bytes,
            )
            .is_ok()
            && BaseMut::write(self, start, &bytes).is_ok();
        is_taken && kind == 2
    }

    fn publish(&mut self) -> Result<(), Failure> {
        self.act(|_| ())?;
        self.0.borrow_mut().named.0 = true;
        self.act(|_| ())?;
        self.0.borrow_mut().named.1 = true;
        Ok(())
    }
}

impl Medium for Handle {
    fn slots(&mut self) -> u32 {
        let machine = self.0.borrow();
        u32::try_from(machine.disk(self.1).seen.len() >> machine.shape.chunk_shift).unwrap()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        let offset = self.0.borrow().shape.offset_bytes(slot);
        self.read_at(offset, into)
    }
}

impl MediumMut for Handle {
    fn write(&mut self, slot: u32, from: &[u8]) -> Result<(), Failure> {
        let offset = self.0.borrow().shape.offset_bytes(slot);
        BaseMut::write(self, offset, from)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.sync_all()
    }

    fn grow(&mut self, from: u32, to: u32, _: Origin) -> Result<(), Failure> {
        let shape = self.0.borrow().shape;
        let start = usize::try_from(shape.offset_bytes(from)).unwrap();
        let end = usize::try_from(shape.offset_bytes(to)).unwrap();
        self.act(|disk| {
            for bytes in [&mut disk.seen, &mut disk.durable] {
                bytes.resize(end.max(bytes.len()), 0);
                bytes[start..end].fill(0);
            }
        })
    }
}

/// Bytes as a cowfile that is only read.
pub(super) struct Bytes<'a>(pub(super) Shape, pub(super) &'a [u8]);

impl Medium for Bytes<'_> {
    fn slots(&mut self) -> u32 {
        u32::try_from(self.1.len() >> self.0.chunk_shift).unwrap()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        let start = (slot as usize) << self.0.chunk_shift;
        let found = self.1.get(start..start + into.len());
        into.copy_from_slice(found.ok_or(Failure::Io)?);
        Ok(())
    }
}
