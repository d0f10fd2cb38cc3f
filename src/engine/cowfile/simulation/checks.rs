//! What must hold: of what a read gives, of what a power cut leaves, of what a closed store holds.

use std::collections::BTreeSet;

use super::disk::Image;
use super::history::differs;
use super::machine::{Faults, content};
use super::world::{LONGEST, UnderWay, World};
use crate::engine::command::{Op, Request, RequestId};
use crate::engine::cowfile::WhenFull;
use crate::engine::cowfile::offline::{Content, Offline};
use crate::engine::cowfile::recover::{Recovered, recover};
use crate::engine::format::page;
use crate::engine::simulation::machine::{SECTOR, affected};
use crate::engine::units::Extent;

impl World {
    pub(super) fn check_read(&mut self, over: &UnderWay) -> Result<(), String> {
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

    pub(super) fn try_cuts(&mut self) -> Result<(), String> {
        // Nothing written since the last sync: every cut leaves the same.
        let cuts = if self.disk.unsynced() == 0 {
            self.faults.cuts.min(1)
        } else {
            self.faults.cuts
        };
        for _ in 0..cuts {
            let cut = self.disk.any_cut(&mut self.random);
            let image = self.after(cut);
            let checked = match self.faults.lying {
                0 => self.check_image(&image).and_then(|(found, _)| {
                    // It takes as long as all the rest for each of them.
                    match self.random.u8(0..8) {
                        0 => self.check_others(&found, &image),
                        _ => Ok(()),
                    }
                }),
                _ => self.check_lied_to(&image),
            };
            checked
                .map_err(|wrong| format!("{cut:?} of {} writes: {wrong}", self.disk.unsynced()))?;
        }
        Ok(())
    }

    /// Recover from an image: it must read as one epoch, whole.
    pub(super) fn check_image(&mut self, image: &[u8]) -> Result<(Recovered, Vec<u32>), String> {
        self.states += 1;
        self.distinct.insert(page::checksum(image));
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
        if self.random.u8(0..4) == 0 {
            self.check_without_newest(image, &found)?;
        }
        Ok((found, contents))
    }

    /// One superblock may be lost, whichever it is: the other one leads to the same epoch.
    fn check_without_newest(&mut self, image: &[u8], found: &Recovered) -> Result<(), String> {
        let mut image = image.to_vec();
        let slot = found.superblock.slot() as usize;
        image[slot << self.shape.chunk_shift] ^= 1;
        let mut medium = Image {
            shape: self.shape,
            bytes: &image,
        };
        // While a superblock is being written there is only one.
        let Ok(other) = recover(&mut medium, self.shape, None) else {
            return Ok(());
        };
        self.seen.count("superblocks lost");
        let wrong = |wrong| format!("with the newest superblock lost: {wrong}");
        let contents = self.contents_of(&other, &image).map_err(wrong)?;
        let incarnation = other.superblock.origin.incarnation;
        if incarnation != found.superblock.origin.incarnation && other.epoch > found.epoch {
            // A cut between a restart's two superblocks, and then a loss: the epoch that was dropped is
            // back, which nobody was told is gone.
            return Ok(());
        }
        let history = &self.history;
        history
            .check(other.epoch, incarnation, &contents)
            .map_err(wrong)
    }

    /// What the device reads as, all of it, from what was recovered.
    pub(super) fn contents_of(&self, found: &Recovered, image: &[u8]) -> Result<Vec<u32>, String> {
        self.sectors_of(found, image).into_iter().collect()
    }

    /// The same, sector by sector, with those that do not read.
    fn sectors_of(&self, found: &Recovered, image: &[u8]) -> Vec<Result<u32, String>> {
        let shape = self.shape;
        let mut medium = Image {
            shape,
            bytes: image,
        };
        let mut offline = Offline::new(found.clone());
        let mut sectors = Vec::with_capacity(self.model.len());
        let mut bytes = vec![0; shape.chunk_len()];
        for chunk in 0..self.geometry.chunks() {
            let read = offline.read(&mut medium, chunk, &mut bytes);
            match read {
                Ok(Content::Zero) => bytes.fill(0),
                Ok(Content::Absent) => {
                    bytes.fill(0);
                    let start = usize::try_from(chunk).unwrap() * bytes.len();
                    let base = self.base.get(start..).unwrap_or_default();
                    let len = base.len().min(bytes.len());
                    bytes[..len].copy_from_slice(&base[..len]);
                }
                Ok(Content::Read) | Err(_) => {}
            }
            for sector in bytes.chunks(SECTOR) {
                sectors.push(match &read {
                    Ok(_) => content(sector).ok_or_else(|| format!("chunk {chunk} is torn")),
                    Err(trouble) => Err(format!("chunk {chunk}: {trouble:?}")),
                });
            }
        }
        sectors.truncate(self.model.len());
        sectors
    }

    /// Recover from an image of a disk whose syncs were lies: what reads must be of one epoch.
    fn check_lied_to(&mut self, image: &[u8]) -> Result<(), String> {
        self.states += 1;
        self.distinct.insert(page::checksum(image));
        let shape = self.shape;
        let mut medium = Image {
            shape,
            bytes: image,
        };
        let Ok(found) = recover(&mut medium, shape, None) else {
            self.seen.count("lies found at the open");
            return Ok(());
        };
        let sectors = self.sectors_of(&found, image);
        if sectors.iter().any(Result::is_err) {
            self.seen.count("lies found by reads");
        }
        let read = sectors.into_iter().map(Result::ok).collect();
        let incarnation = found.superblock.origin.incarnation;
        self.history.check_lied_to(found.epoch, incarnation, read)
    }

    /// Read the whole device through requests.
    pub(super) fn check_by_reading(&mut self) -> Result<(), String> {
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
            self.wait_for(id)?;
        }
        self.faults = faults;
        Ok(())
    }

    /// Nothing goes wrong any more: all that was acknowledged is there, and the store closes.
    pub(super) fn end(&mut self) -> Result<(), String> {
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
        if full.used * 10 > full.limits.capacity * 9 {
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
        let (_, contents) = self.check_closed()?;
        match differs(&self.model, &contents) {
            None => Ok(()),
            Some(sector) => Err(format!("after closing, sector {sector} is wrong")),
        }
    }

    pub(super) fn check_closed(&mut self) -> Result<(Recovered, Vec<u32>), String> {
        let image = self.disk.seen().to_vec();
        let found = self.check_image(&image)?;
        let unsynced = match found.0.superblock.clean {
            true => self.disk.unsynced(),
            false => 0,
        };
        if !self.faulty && (self.store.usage().staged > 0 || unsynced > 0) {
            return Err(format!("closed, and {unsynced} writes are not durable"));
        }
        Ok(found)
    }

    /// Let everything go on until a request is over.
    pub(super) fn wait_for(&mut self, id: RequestId) -> Result<(), String> {
        while self.under_way.contains_key(&id) {
            if self.commands.is_empty() {
                let waiting = self.under_way.len();
                self.give_up_waiting()?;
                if self.commands.is_empty() && self.under_way.len() == waiting {
                    return Err(format!("a request waits for nothing: {}", self.stuck()));
                }
            } else {
                self.run_one()?;
            }
        }
        Ok(())
    }

    /// Writes that wait for room get none.
    pub(super) fn give_up_waiting(&mut self) -> Result<(), String> {
        if self.settings.when_full == WhenFull::Fail {
            return Ok(());
        }
        self.seen.count("waited for room in vain");
        self.call(
            |store, memory, out| store.give_up_waiting(memory, out),
            None,
        )
    }

    /// What somebody needs to know who looks why nothing goes on.
    pub(super) fn stuck(&self) -> String {
        let store = &self.store;
        let requests: Vec<_> = store.requests.iter().flatten().collect();
        format!(
            "starved {:?} unbuffered {:?} flushes {:?} tail {:?} epoch {} jobs {} trouble {} short {} \
             scan {} growing {} free {} grown {} of {} staged {} open {}+{} closing {:?} delta {} \
             held {} journal {} buffers {} need {} {:?} may come {} requests {requests:?}",
            store.starved,
            store.unbuffered,
            store.flushes,
            store.tail.is_some(),
            store.epoch,
            store.has_jobs(),
            store.trouble,
            store.short,
            store.scan.is_some(),
            store.growing,
            store.space.free(),
            store.space.grown(),
            store.max_slots,
            store.staging.used(),
            store.staging.open_epoch().puts(),
            store.staging.open_epoch().fills(),
            store.staging.closing().map(|closing| closing.puts()),
            store.delta.puts(),
            store.held.len(),
            store.journal.len(),
            store.page_buffers.len(),
            store.need(),
            store.settings.when_full,
            store.may_make_room(),
        )
    }

    pub(super) fn drain(&mut self) -> Result<(), String> {
        loop {
            while !self.commands.is_empty() {
                self.run_one()?;
            }
            let waiting = self.under_way.len();
            self.give_up_waiting()?;
            if self.commands.is_empty() && self.under_way.len() == waiting {
                break;
            }
        }
        if self.under_way.is_empty() {
            return Ok(());
        }
        Err(format!("requests wait for nothing: {}", self.stuck()))
    }
}
