//! What happens to a machine: its commands end or fail, its process dies, its power goes.

use std::collections::BTreeSet;

use super::disk::{Disk, SECTOR};
use super::history::History;
use super::machine::{affected, changes_sectors, shorten, words};
use super::world::{Asked, World};
use crate::engine::command::{Action, Buffers, Failure, Outcome};
use crate::engine::cowfile::Cowfile;
use crate::engine::cowfile::recover::recover;
use crate::engine::cowfile::staging::{Durable, Staging};

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
        // What a cut may leave is most interesting before the store knows how it went.
        self.try_cuts()?;
        self.call(
            |store, memory, out| store.complete(id, outcome, memory, out),
            None,
        )
    }

    pub(super) fn outcome(&mut self, asked: &Asked) -> Outcome {
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

    pub(super) fn failed_sync(&mut self, _asked: &Asked) {
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

    /// The power goes, and comes back.
    pub(super) fn cut(&mut self) -> Result<(), String> {
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
    pub(super) fn repeat(&mut self) -> Result<(), String> {
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
    pub(super) fn die(&mut self) -> Result<(), String> {
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

    pub(super) fn left_behind(&self) -> Result<Durable, String> {
        let (pool, shift) = (self.settings.staging_chunks, self.shape.fanout_shift);
        let chunks = self.geometry.chunks();
        Staging::open(self.words.clone(), [7; 16], pool, shift, chunks)
            .map(|staging| staging.durable())
            .map_err(|damage| format!("after a death: {damage:?}"))
    }
}
