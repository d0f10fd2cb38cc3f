//! What happens to a machine: its commands end or fail, its process dies, its power goes.

use std::collections::BTreeSet;

use super::disk::{Cut, Disk};
use super::history::{History, differs};
use super::machine::words;
use super::world::{Asked, World};
use crate::engine::command::{Action, Buffers, Failure, Outcome};
use crate::engine::cowfile::Cowfile;
use crate::engine::cowfile::found::Standing;
use crate::engine::cowfile::recover::{Recovered, recover};
use crate::engine::cowfile::staging::{Durable, Staging};
use crate::engine::format::page;
use crate::engine::format::superblock::Superblock;
use crate::engine::simulation::machine::{SECTOR, affected, changes_sectors, shorten};

impl World {
    pub(super) fn run_one(&mut self) -> Result<(), String> {
        let mut next = self.random.usize(0..self.commands.len());
        for _ in 0..4 {
            if self.commands[next].slow {
                next = self.random.usize(0..self.commands.len());
            }
        }
        if next > 0 {
            self.seen.count("out of order");
        }
        let asked = self.commands.swap_remove(next);
        let outcome = self.outcome(&asked);
        let id = asked.command.id;
        self.trace(|world| {
            let shown = world.show(asked.command.action);
            format!("{} {id:?} {shown} -> {outcome:?}", world.ran)
        });
        // What a cut may leave is most interesting before the store knows how it went.
        self.try_cuts()?;
        self.call(
            |store, memory, out| store.complete(id, outcome, memory, out),
            None,
        )
    }

    /// Say what happens, if `COWROOT_TRACE` is set.
    pub(super) fn trace(&self, what: impl FnOnce(&Self) -> String) {
        if self.traced {
            eprintln!("{}", what(self));
        }
    }

    /// An action, in slots, and what a page that is written says of itself.
    fn show(&self, action: Action) -> String {
        let slot = |offset: u64| offset >> self.shape.chunk_shift;
        match action {
            Action::WriteCow { offset, from } => {
                let bytes = self.memory.bytes(from);
                let at = u32::try_from(slot(offset)).unwrap();
                let superblock = Superblock::decode(bytes, at);
                let superblock = superblock
                    .map(|s| (s.generation, s.journal, s.durable_seq, s.origin.incarnation));
                let page = page::header(bytes, page::Kind::Commit);
                let page = page.map(|page| (page.seq.get(), page.incarnation.get()));
                format!("write {at}: superblock {superblock:?}, commit page {page:?}")
            }
            Action::ReadCow { offset, .. } => format!("read {}", slot(offset)),
            Action::GrowCow { offset, len } => format!("grow {} by {}", slot(offset), slot(len)),
            other => format!("{other:?}"),
        }
    }

    pub(super) fn outcome(&mut self, asked: &Asked) -> Outcome {
        self.ran += 1;
        let action = asked.command.action;
        let nth = self.faults.nth == Some(self.ran);
        let fails = nth && !self.faults.nth_is_short;
        if fails || self.random.u16(0..1000) < self.faults.failing {
            self.faulty = true;
            self.fault_at = self.ran;
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
        let short = nth || self.random.u16(0..1000) < self.faults.short;
        if bytes > SECTOR && short {
            bytes = self.random.usize(1..bytes / SECTOR + 1) * SECTOR;
        }
        match action {
            Action::SyncCow if self.random.u16(0..1000) < self.faults.lying => {
                self.seen.count("lies");
            }
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

    pub(super) fn failed_sync(&mut self, _asked: &Asked) {
        self.lied = true;
        self.seen.count("failed syncs");
        self.synced += self.disk.unsynced() as u64;
        self.disk.drop_writes(&mut self.random);
    }

    pub(super) fn execute(&mut self, action: Action) {
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

    /// What ends a generation: most often a power cut.
    pub(super) fn end_generation(&mut self) -> Result<(), String> {
        match self.random.u8(0..8) {
            0 | 1 => self.reopen(),
            2 if !self.lied => self.forget(),
            _ => self.cut(),
        }
    }

    /// What a cut leaves on the disk. While a file grows there may be anything behind its end.
    pub(super) fn after(&mut self, cut: Cut) -> Vec<u8> {
        let mut image = self.disk.after(cut, &mut self.random);
        let growth = self
            .commands
            .iter()
            .find_map(|asked| match asked.command.action {
                Action::GrowCow { offset, len } => Some((offset, len)),
                _ => None,
            });
        if let Some((offset, len)) = growth.filter(|_| self.random.bool()) {
            self.seen.count("cut growths");
            let start = usize::try_from(offset).unwrap();
            let end = start + self.random.usize(0..=usize::try_from(len).unwrap());
            image.resize(end.max(image.len()), 0);
            image[start..end].fill(self.random.u8(..));
        }
        image
    }

    /// The power goes, and comes back.
    pub(super) fn cut(&mut self) -> Result<(), String> {
        let cut = self.disk.any_cut(&mut self.random);
        let image = self.after(cut);
        let (found, contents) = self.check_image(&image)?;
        self.check_others(&found, &image)?;
        self.seen.count("power cuts");
        self.trace(|_| {
            format!(
                "power cut: {cut:?}, superblock {}",
                found.superblock.generation
            )
        });
        self.disk = Disk::holding(self.shape, image);
        self.settle_change(found.superblock.active_layer);
        self.begin_anew(found, contents);
        Ok(())
    }

    /// The store is closed, perhaps gets another layer or loses one, and is opened again.
    fn reopen(&mut self) -> Result<(), String> {
        if self.random.bool() {
            self.drain()?;
        } else {
            self.seen.count("closed with requests under way");
        }
        self.call(|store, memory, out| store.close(memory, out), None)?;
        self.drain()?;
        if self.store.broken().is_some() && self.faulty {
            return self.cut();
        }
        if !self.store.is_closed() || self.store.broken().is_some() {
            return Err(format!("it does not close: {:?}", self.store.broken()));
        }
        let (found, contents) = self.check_closed()?;
        if let Some(sector) = differs(&self.model, &contents) {
            return Err(format!("closed, and sector {sector} is wrong"));
        }
        if self.disk.unsynced() > 0 {
            // It wrote nothing, and what it found is still in no more than a cache.
            return self.cut();
        }
        self.seen.count("reopened");
        self.settle_change(found.superblock.active_layer);
        self.check_others(&found, self.disk.seen())?;
        self.trace(|_| "closed and opened".into());
        self.begin_anew(found.clone(), contents);
        if found.superblock.clean && self.random.bool() {
            self.change_layers(&found)?;
        }
        Ok(())
    }

    /// All processes die, and what they had in memory is gone; what is in the cache stays there.
    pub(super) fn forget(&mut self) -> Result<(), String> {
        self.seen.count("memory lost");
        self.trace(|_| "memory lost".into());
        self.stop_commands(false);
        let image = self.disk.seen().to_vec();
        let (found, contents) = self.check_image(&image)?;
        self.model = contents.into_iter().map(|c| BTreeSet::from([c])).collect();
        self.settle_change_in_cache(found.superblock.active_layer);
        self.history.next_process(found.epoch);
        self.open(found);
        Ok(())
    }

    /// All that is on the disk is durable, and nobody remembers anything else.
    pub(super) fn begin_anew(&mut self, found: Recovered, contents: Vec<u32>) {
        let known = |content: u32| BTreeSet::from([content]);
        self.model = contents.into_iter().map(known).collect();
        let incarnation = found.superblock.origin.incarnation;
        self.history = History::after_cut(found.epoch, incarnation, self.model.clone());
        self.lied = false;
        self.synced = 0;
        self.lose_layer(found.superblock.active_layer);
        self.open(found);
    }

    fn open(&mut self, found: Recovered) {
        self.trace(|_| {
            let superblock = &found.superblock;
            let (generation, journal) = (superblock.generation, superblock.journal);
            format!(
                "  found {generation}, {journal:?} to {:?}, {:?}",
                found.tail, found.standing
            )
        });
        self.commands.clear();
        self.under_way.clear();
        self.faulty = false;
        self.words = words(self.settings.staging_chunks);
        self.memory.staging.fill(0xbb);
        self.settings.random = self.random.u64(..);
        self.store = Cowfile::open(found, self.words.clone(), self.settings);
    }

    /// Write again what was written before the cut, as a journalling file system does.
    pub(super) fn repeat(&mut self) -> Result<(), String> {
        self.seen.count("repeated generations");
        let log = std::mem::take(&mut self.log);
        let from = log.len().saturating_sub(30);
        for (request, content) in log.into_iter().skip(from) {
            self.wait_for(request.id)?;
            self.issue(request, content)?;
        }
        Ok(())
    }

    /// Nobody waits for the commands any more: each may have happened, in part or not.
    fn stop_commands(&mut self, lie: bool) {
        // What was found in a cache, with no memory of it, a failed sync may lose: nobody could tell.
        let lie = lie && self.store.standing == Standing::Durable;
        for asked in std::mem::take(&mut self.commands) {
            let action = asked.command.action;
            self.trace(|world| format!("  pending: {}", world.show(action)));
            if matches!(action, Action::WriteCow { .. }) && self.random.bool() {
                let bytes = action.transfer_bytes();
                let part = self.random.usize(0..=bytes / SECTOR) * SECTOR;
                let done = if self.random.bool() { bytes } else { part };
                self.execute(shorten(action, done));
            }
            if let (Action::GrowCow { offset, len }, true) = (action, self.random.bool()) {
                self.disk.grow(offset, len);
            }
            if lie && action == Action::SyncCow && self.random.bool() {
                // The sync may have failed, and nobody was there to be told.
                self.failed_sync(&asked);
            }
        }
    }

    /// The process dies: what was asked for may have happened or not; what happened stays, in the cache.
    pub(super) fn die(&mut self) -> Result<(), String> {
        self.seen.count("deaths");
        self.trace(|_| "the process dies".into());
        self.stop_commands(true);
        let lost = std::mem::take(&mut self.under_way);
        for over in lost.values().filter(|over| changes_sectors(&over.request)) {
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
        self.trace(|_| format!("  left {durable:?}"));
        // What a disk forgets that has lied about a sync, nobody can write again.
        let pulled = durable.filter(|_| self.faults.lying == 0 && self.random.u8(0..3) == 0);
        if pulled.is_some() {
            self.pull();
        }
        let found = recover(&mut self.disk.clone(), self.shape, durable)
            .map_err(|trouble| format!("after a death: {trouble:?}"))?;
        self.settle_change(found.superblock.active_layer);
        let generation = found.superblock.generation;
        if pulled.is_some_and(|durable| durable.generation != generation) {
            return Err(format!(
                "put back: {pulled:?} was durable, {generation} is found"
            ));
        }
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

    /// The medium is pulled out and put back: what was in its cache is gone, and the memory of who wrote it is not.
    fn pull(&mut self) {
        self.seen.count("media pulled");
        let cut = self.disk.any_cut(&mut self.random);
        self.trace(|_| format!("  pulled: {cut:?}"));
        let image = self.after(cut);
        self.disk = Disk::holding(self.shape, image);
        self.synced = 0;
    }

    pub(super) fn left_behind(&self) -> Result<Option<Durable>, String> {
        let (pool, shift) = (self.settings.staging_chunks, self.shape.fanout_shift);
        let chunks = self.geometry.chunks();
        Staging::open(self.words.clone(), [7; 16], pool, shift, chunks)
            .map(|staging| staging.durable())
            .map_err(|damage| format!("after a death: {damage:?}"))
    }
}
