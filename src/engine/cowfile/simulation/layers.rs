//! Layers come and go between two opens, and the power may go while they do.

use std::collections::BTreeMap;

use super::disk::{Disk, Image};
use super::history::{History, Sectors, differs};
use super::world::World;
use crate::engine::command::Failure;
use crate::engine::cowfile::create::MediumMut;
use crate::engine::cowfile::layers::{self, Edit, NotDone};
use crate::engine::cowfile::recover::{Medium, Recovered, recover};
use crate::engine::format::superblock::{Merge, Superblock};

/// What the device reads as on each layer that does not take the writes, by number.
pub(super) type Others = BTreeMap<u8, Sectors>;

/// A layer that is to begin while the device is in use.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// Who takes the writes before.
    below: u8,
    number: u8,
    /// The last epoch of that one, and what it may read as.
    epoch: u64,
    sealed: Option<Sectors>,
}

/// A disk whose power may go at any moment.
struct Cuttable<'a> {
    disk: &'a mut Disk,
    random: &'a mut fastrand::Rng,
    images: Vec<Vec<u8>>,
}

impl Cuttable<'_> {
    fn look(&mut self) {
        let cut = self.disk.any_cut(self.random);
        let image = self.disk.after(cut, self.random);
        self.images.push(image);
    }
}

impl Medium for Cuttable<'_> {
    fn slots(&mut self) -> u32 {
        self.disk.slots()
    }

    fn read(&mut self, slot: u32, into: &mut [u8]) -> Result<(), Failure> {
        self.disk.read(slot, into)
    }
}

impl MediumMut for Cuttable<'_> {
    fn write(&mut self, slot: u32, from: &[u8]) -> Result<(), Failure> {
        self.disk.write(slot, from)?;
        self.look();
        self.look();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.look();
        self.disk.sync()?;
        self.look();
        Ok(())
    }
}

impl World {
    /// Change the layers of a closed cowfile in some way, look what cuts meanwhile leave, and open it again.
    pub(super) fn change_layers(&mut self, found: &Recovered) -> Result<(), String> {
        let edit = self.some_edit(&found.superblock);
        let planned = match layers::planned(found, edit) {
            Ok(planned) => planned,
            Err(NotDone::InUse(_) | NotDone::Active | NotDone::Sealed | NotDone::TooMany) => {
                self.seen.count("layers refused");
                return Ok(());
            }
            Err(why) => return Err(format!("layers: {edit:?}: {why:?}")),
        };
        self.seen.count(match edit {
            Edit::Begin(_) => "layers begun",
            Edit::Activate(_) => "layers activated",
            Edit::Seal(_) => "layers sealed",
            Edit::Drop(_) => "layers dropped",
            Edit::RollBack => "layers rolled back",
            Edit::Describe | Edit::AskMerge(_) => "layers described",
        });
        let before = (self.model.clone(), self.others.clone());
        let wanted = (planned.active_layer, planned.layers);
        self.model_of(edit, found.superblock.active_layer, &planned);
        let mut medium = Cuttable {
            disk: &mut self.disk,
            random: &mut self.random,
            images: Vec::new(),
        };
        layers::write(&mut medium, found, planned)
            .map_err(|why| format!("layers: {edit:?}: {why:?}"))?;
        let images = medium.images;
        for image in images {
            self.states += 1;
            let there = self.recovered(&image)?;
            let is_new = (there.superblock.active_layer, there.superblock.layers) == wanted;
            let after = (self.model.clone(), self.others.clone());
            let (model, others) = if is_new { &after } else { &before };
            self.check_layers(&there, &image, (model, others))
                .map_err(|wrong| format!("cut in {edit:?}: {wrong}"))?;
        }
        self.measure();
        let image = self.disk.seen().to_vec();
        let (epoch, incarnation) = (found.epoch, found.superblock.origin.incarnation);
        self.history = History::after_cut(epoch, incarnation, self.model.clone());
        let (found, contents) = self.check_image(&image)?;
        self.check_others(&found, &image)?;
        self.begin_anew(found, contents);
        Ok(())
    }

    /// Begin a layer while requests are under way.
    pub(super) fn begin_layer(&mut self) -> Result<(), String> {
        self.change_ended();
        if self.change.is_some() {
            return Ok(());
        }
        let superblock = self.store.superblock().clone();
        let below = superblock.active_layer;
        let (edit, mut description) = (Edit::Begin(Some(below)), superblock.description.clone());
        // What is known of it gets longer, until it does not fit.
        description.resize(description.len() + self.random.usize(0..300), 7);
        let open = self.store.has_open_changes();
        let epoch = self.store.open_epoch() - u64::from(!open);
        let mut planned = superblock;
        if layers::edited(&mut planned, edit).is_err() {
            return Ok(());
        }
        let sealed = (!open).then(|| self.history.sectors(epoch));
        self.change = Some(Change {
            below,
            number: planned.active_layer,
            epoch,
            sealed: sealed.flatten(),
        });
        self.measure();
        let mut refused = None;
        self.call(
            |store, memory, out| {
                refused = store.change_layers(edit, description, memory, out).err();
            },
            None,
        )?;
        if refused.is_some() {
            self.change = None;
            self.measure();
        }
        Ok(())
    }

    /// Begin a layer, lose all memory once a superblock that has it can be read and is not durable, and soon after that
    /// the power.
    pub(super) fn lose_memory_at_layer(&mut self) -> Result<(), String> {
        self.begin_layer()?;
        while let Some(number) = self.change.as_ref().map(|change| change.number) {
            if self.commands.is_empty() {
                break;
            }
            self.run_one()?;
            let image = self.disk.seen().to_vec();
            let found = self.recovered(&image)?;
            if found.superblock.active_layer == number && self.disk.unsynced() > 0 {
                self.forget()?;
                self.steps(5)?;
                return self.cut();
            }
        }
        Ok(())
    }

    /// An epoch was closed when the device could read as `may_be`.
    pub(super) fn seal_at(&mut self, epoch: u64, may_be: &Sectors) {
        if let Some(change) = self.change.as_mut().filter(|change| change.epoch == epoch) {
            change.sealed = Some(may_be.clone());
        }
    }

    /// Look whether the store has begun the layer.
    fn change_ended(&mut self) {
        if !self.store.changes_layers() {
            let active = self.store.superblock().active_layer;
            self.settle_change(active);
        }
    }

    /// Whoever goes on found that this layer takes the writes.
    pub(super) fn settle_change(&mut self, active: u8) {
        let Some(change) = self.change.take() else {
            return;
        };
        if active == change.number {
            self.seen.count("layers begun in use");
            let sealed = change.sealed.expect("it began behind an epoch");
            self.others.insert(change.below, sealed);
        }
        self.measure();
    }

    /// The same where that was found in what may be no more than a cache. Nobody was told that the layer has begun, and
    /// none writes to it before its superblock is durable.
    pub(super) fn settle_change_in_cache(&mut self, active: u8) {
        let begun = self
            .change
            .as_ref()
            .map(|change| (change.number, change.below));
        self.settle_change(active);
        if let Some((number, below)) = begun
            && number == active
        {
            self.begun_in_cache = Some(below);
        }
    }

    /// What was found is durable. If a layer was only in a cache, the one below it may take the writes again.
    pub(super) fn lose_layer(&mut self, active: u8) {
        if self.begun_in_cache.take() == Some(active) {
            self.seen.count("layers begun in a cache and lost");
            self.others.remove(&active);
            self.measure();
        }
    }

    fn some_edit(&mut self, superblock: &Superblock) -> Edit {
        let numbers = (0..).zip(&superblock.layers);
        let numbers: Vec<u8> = numbers
            .filter_map(|(number, layer)| layer.map(|_| number))
            .collect();
        let one = numbers[self.random.usize(0..numbers.len())];
        // Most layers are stood on; what can be done with the others is more interesting.
        let parents = superblock.layers.iter().flatten();
        let parents: Vec<u8> = parents.filter_map(|layer| layer.parent).collect();
        let is_top =
            |number: &&u8| **number != superblock.active_layer && !parents.contains(number);
        let tops: Vec<u8> = numbers.iter().filter(is_top).copied().collect();
        let top = match tops.is_empty() || self.random.u8(0..8) == 0 {
            true => one,
            false => tops[self.random.usize(0..tops.len())],
        };
        match self.random.u8(0..10) {
            0..2 => Edit::Begin(Some(superblock.active_layer)),
            2 => Edit::Begin(Some(one)),
            3 => Edit::Begin(None),
            4 => Edit::Activate(top),
            5 => Edit::Seal(top),
            6 | 7 => Edit::Drop(top),
            8 => Edit::RollBack,
            _ => Edit::AskMerge(self.random.bool().then_some(Merge {
                top: superblock.active_layer,
                ..Merge::default()
            })),
        }
    }

    /// What an edit makes of the model. `before` took the writes.
    fn model_of(&mut self, edit: Edit, before: u8, planned: &Superblock) {
        let base = self.base_model.clone();
        match edit {
            Edit::Describe | Edit::AskMerge(_) | Edit::Seal(_) => {}
            Edit::Begin(below) => {
                let old = self.model.clone();
                self.others.insert(before, old);
                self.model = below.map_or(base, |below| self.others[&below].clone());
            }
            Edit::Activate(number) if number == before => {}
            Edit::Activate(number) => {
                let model = self.others.remove(&number).unwrap();
                let old = std::mem::replace(&mut self.model, model);
                self.others.insert(before, old);
            }
            Edit::Drop(number) => drop(self.others.remove(&number)),
            Edit::RollBack if planned.active_layer == before => self.model = base,
            Edit::RollBack => self.model = self.others.remove(&planned.active_layer).unwrap(),
        }
    }

    fn recovered(&self, image: &[u8]) -> Result<Recovered, String> {
        let mut medium = Image {
            shape: self.shape,
            bytes: image,
        };
        recover(&mut medium, self.shape, None)
            .map_err(|trouble| format!("not recovered: {trouble:?}"))
    }

    /// All layers but the one that takes the writes read as they did when they last took some.
    pub(super) fn check_others(&self, found: &Recovered, image: &[u8]) -> Result<(), String> {
        let change = self.change.as_ref();
        let change = change.filter(|change| change.number == found.superblock.active_layer);
        let sealed = change.and_then(|change| Some((&change.below, change.sealed.as_ref()?)));
        if change.is_some() && sealed.is_none() {
            return Err("a layer began before the last one's epoch was closed".into());
        }
        for (&number, model) in self.others.iter().chain(sealed) {
            let mut through = found.clone();
            through.look_at(number);
            let contents = self
                .contents_of(&through, image)
                .map_err(|wrong| format!("layer {number}: {wrong}"))?;
            if let Some(sector) = differs(model, &contents) {
                let (reads, may) = (contents[sector], &model[sector]);
                return Err(format!(
                    "layer {number}: sector {sector} reads {reads}, may be {may:?}"
                ));
            }
        }
        Ok(())
    }

    fn check_layers(
        &mut self,
        found: &Recovered,
        image: &[u8],
        (model, others): (&Sectors, &Others),
    ) -> Result<(), String> {
        let contents = self.contents_of(found, image)?;
        if let Some(sector) = differs(model, &contents) {
            return Err(format!("sector {sector} reads {}", contents[sector]));
        }
        let now = std::mem::replace(&mut self.others, others.clone());
        let checked = self.check_others(found, image);
        self.others = now;
        checked
    }
}
