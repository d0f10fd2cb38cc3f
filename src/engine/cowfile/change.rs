//! Layers changed while the cowfile is in use: what is acknowledged is folded in, then both superblocks are written.
//!
//! No epoch is committed from then on until both say the same: the journal speaks of one layer.

use std::ops::Deref;
use std::sync::atomic::AtomicU32;

use super::Cowfile;
use super::flip::Reason;
use super::found::Standing;
use super::layers::{Edit, NotDone, edited};
use super::mutant::{self, Mutant};
use crate::engine::command::{Buffers, Outbox};
use crate::engine::cowfile::pending::Io;
use crate::engine::format::superblock::Superblock;

/// A change that is to be made.
#[derive(Debug)]
pub(super) struct Change {
    edit: Edit,
    description: Vec<u8>,
    /// The last epoch of the layer that takes the writes now.
    epoch: u64,
    /// A superblock that has it is durable.
    is_made: bool,
}

impl<W: Deref<Target = [AtomicU32]>> Cowfile<W> {
    /// What the layers are now, and what is known of them.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Seal the layer that takes the writes, with all that is acknowledged, and begin an empty one on it; or only have
    /// another description, or a merge that is asked for. Made when `changes_layers` is false again.
    ///
    /// # Errors
    /// It cannot be: also for any other edit. Nothing has changed then.
    pub fn change_layers(
        &mut self,
        edit: Edit,
        description: Vec<u8>,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
    ) -> Result<(), NotDone> {
        let active = self.superblock.active_layer;
        if self.read_only || self.broken.is_some() || self.closing_down || self.change.is_some() {
            return Err(NotDone::ReadOnly);
        }
        let is_possible = match edit {
            Edit::Describe | Edit::AskMerge(_) => true,
            Edit::Begin(below) => below == Some(active),
            _ => false,
        };
        if !is_possible {
            return Err(NotDone::Active);
        }
        if !self
            .settings
            .has_room_for(&self.superblock, description.len())
        {
            return Err(NotDone::TooMany);
        }
        edited(&mut self.superblock.clone(), edit)?;
        let open = self.has_open_changes();
        self.change = Some(Change {
            edit,
            description,
            epoch: self.open_epoch() - u64::from(!open),
            is_made: false,
        });
        if open {
            self.wanted = self.open_epoch();
        }
        self.pump(&mut Io { buffers, out });
        Ok(())
    }

    /// Whether a change of the layers is still to be made.
    pub fn changes_layers(&self) -> bool {
        self.change.is_some() && self.broken.is_none()
    }

    /// Whether the layers are about to change: then all that is to be in the old ones is durable.
    pub(super) fn is_at_change(&self) -> bool {
        let durable = |change: &Change| self.epoch >= change.epoch;
        self.change.as_ref().is_some_and(durable)
    }

    /// Whether a change waits until the journal is folded in.
    pub(super) fn wants_fold(&self) -> bool {
        let is_folded = mutant::is(Mutant::ChangeNotFolded);
        self.is_at_change() && self.tail != Some(self.superblock.journal) && !is_folded
    }

    /// Whether nothing is under way that a change would have to wait for.
    fn is_still(&self) -> bool {
        let is_folded = self.tail == Some(self.superblock.journal)
            && self.delta.is_empty()
            && self.frozen.is_none();
        !self.trouble
            && self.broken.is_none()
            && !self.has_jobs()
            && self.standing == Standing::Durable
            && (is_folded || mutant::is(Mutant::ChangeNotFolded) && self.tail.is_some())
            && self.staging.closing().is_none()
    }

    pub(super) fn step_change(&mut self) -> bool {
        if !self.is_at_change() || !self.is_still() {
            return false;
        }
        let Some(change) = self.change.take() else {
            return false;
        };
        // After an error both superblocks were written anew with what was made before.
        if change.is_made {
            return true;
        }
        let mut superblock = self.superblock.clone();
        // It was tried when it was asked for, and nothing else changes layers.
        if edited(&mut superblock, change.edit).is_ok() {
            superblock.description.clone_from(&change.description);
            self.begin_flip(superblock, Reason::Layers);
            self.change = Some(change);
        }
        true
    }

    /// One superblock has the new layers.
    pub(super) fn layers_are_durable(&mut self) {
        let pages = self.settings.cached_pages(&self.superblock);
        self.trees.begin_layer(pages);
        if let Some(change) = &mut self.change {
            change.is_made = true;
        }
        self.begin_flip(self.superblock.clone(), Reason::LayersAgain);
    }

    /// Both have.
    pub(super) fn layers_are_changed(&mut self) {
        self.change = None;
        self.let_go(self.superblock.journal.seq);
    }
}
