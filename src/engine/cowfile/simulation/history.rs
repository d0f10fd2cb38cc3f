//! What the device may read as: after each epoch, and now.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What each sector may hold: one number if that is known.
pub(super) type Sectors = Vec<BTreeSet<u32>>;

/// A state that a power cut may go back to.
#[derive(Debug, Clone)]
struct Epoch {
    /// Which process closed it.
    process: u32,
    sectors: Sectors,
}

/// The states of all epochs since the last power cut.
#[derive(Debug)]
pub(super) struct History {
    /// A process that dies begins its open epoch anew, so there may be two of one number.
    epochs: BTreeMap<u64, Vec<Epoch>>,
    process: u32,
    /// The last durable epoch when each process began.
    starts: Vec<u64>,
    /// By whom an incarnation was begun.
    incarnations: HashMap<u64, u32>,
    /// A flush was acknowledged that covers this epoch.
    pub(super) promised: u64,
    /// The last epoch that was closed.
    pub(super) begun: u64,
}

impl History {
    /// A power cut left this.
    pub(super) fn after_cut(epoch: u64, incarnation: u64, sectors: Sectors) -> Self {
        let found = Epoch {
            process: 0,
            sectors,
        };
        Self {
            epochs: BTreeMap::from([(epoch, vec![found])]),
            process: 0,
            starts: vec![epoch],
            incarnations: HashMap::from([(incarnation, 0)]),
            promised: epoch,
            begun: epoch,
        }
    }

    /// The process died, and another goes on after this epoch.
    pub(super) fn next_process(&mut self, epoch: u64) {
        self.process += 1;
        self.starts.push(epoch);
    }

    /// This open is the process's.
    pub(super) fn incarnation(&mut self, incarnation: u64) {
        self.incarnations.entry(incarnation).or_insert(self.process);
    }

    /// An epoch was closed when the device could read as `sectors`.
    pub(super) fn closed(&mut self, epoch: u64, sectors: Sectors) {
        self.begun = self.begun.max(epoch);
        let process = self.process;
        let states = self.epochs.entry(epoch).or_default();
        states.retain(|state| state.process != process);
        states.push(Epoch { process, sectors });
    }

    /// What the last process closed as this epoch.
    pub(super) fn sectors(&self, epoch: u64) -> Option<Sectors> {
        let states = self.epochs.get(&epoch)?;
        states.last().map(|state| state.sectors.clone())
    }

    /// Whether the device may read as `contents`, which is what was recovered as `epoch`.
    pub(super) fn check(
        &self,
        epoch: u64,
        incarnation: u64,
        contents: &[u32],
    ) -> Result<(), String> {
        let Self {
            promised, begun, ..
        } = self;
        if !(*promised..=*begun).contains(&epoch) {
            return Err(format!(
                "epoch {epoch}, but {promised} was promised and {begun} begun"
            ));
        }
        let state = self.state(epoch, incarnation)?;
        match differs(&state.sectors, contents) {
            None => Ok(()),
            Some(sector) => Err(format!(
                "epoch {epoch}: sector {sector} reads {}, may be {:?}",
                contents[sector], state.sectors[sector]
            )),
        }
    }

    /// The same of a disk that lies about syncs: any epoch, and what does not read is excused.
    pub(super) fn check_lied_to(
        &self,
        epoch: u64,
        incarnation: u64,
        read: Vec<Option<u32>>,
    ) -> Result<(), String> {
        let state = self.state(epoch, incarnation)?;
        let wrong = |(values, content): (&BTreeSet<u32>, &Option<u32>)| {
            content.is_some_and(|content| !values.contains(&content))
        };
        match state.sectors.iter().zip(&read).position(wrong) {
            None => Ok(()),
            Some(sector) => Err(format!(
                "epoch {epoch}: sector {sector} reads {:?}",
                read[sector]
            )),
        }
    }

    /// What was closed as this epoch, by whom this incarnation belongs to or before.
    fn state(&self, epoch: u64, incarnation: u64) -> Result<&Epoch, String> {
        let process = self.incarnations.get(&incarnation).copied();
        let process = process.unwrap_or(self.process);
        let own = epoch > self.starts[process as usize];
        // What is older than the process that wrote this is of the last one before it.
        let state = self.epochs.get(&epoch).and_then(|states| {
            let fits = |state: &&Epoch| match own {
                true => state.process == process,
                false => state.process <= process,
            };
            states.iter().rfind(fits)
        });
        state.ok_or_else(|| format!("epoch {epoch} was never closed by process {process}"))
    }
}

/// The first sector that reads as it may not.
pub(super) fn differs(sectors: &Sectors, contents: &[u32]) -> Option<usize> {
    let wrong = |(values, content): (&BTreeSet<u32>, &u32)| !values.contains(content);
    sectors.iter().zip(contents).position(wrong)
}
