//! Deliberate breaks of the protocol, to see whether the simulation would notice.
//!
//! In a product's build `is` is always false, and nothing of this is left.

/// A rule that can be broken, for the thread that runs a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A commit ends without its sync.
    NoSync,
    /// The next epoch's first page is written before the last epoch's sync is over.
    NextEpochBeforeSync,
    /// A superblock is written before the tree pages it names are durable.
    CheckpointBeforeData,
    /// Slots an epoch renames are free before the epoch is durable.
    SlotReusedEarly,
    /// The last epoch's chunks are not compared with their checksums at recovery.
    NoDataChecksum,
    /// A page of another open passes for one of this.
    NoIncarnation,
    /// A new journal's first page is written where the old journal would have gone on.
    NewIncarnationInPlace,
    /// The first write after an open goes to the journal that was found.
    OpenWithoutRestart,
    /// Every epoch's chunks are compared with their checksums at recovery.
    AllEpochsVerified,
    /// A page's place in the journal is not compared.
    SequenceNotChecked,
    /// An open, or a repair of the log, writes one superblock and not the other.
    OneSuperblock,
    /// Writes are accepted while there is a slot for each.
    ReserveIgnored,
    /// A slot is written while somebody reads it.
    ReadNotPinned,
    /// A new process forgets what the last one had acknowledged.
    StagingNotReplayed,
    /// A new process believes all it finds in the files.
    SyncStartedTakenAsDone,
    /// What was discarded shows what is below it again.
    DiscardReveals,
    /// What a checkpoint replaces is free when one superblock has forgotten it.
    HeldByOneSuperblock,
    /// The superblocks found at an open are taken to be durable, and to agree.
    StandingIgnored,
    /// All slots that the journal does not name are taken to be free, before the trees have been read.
    TreesNotScanned,
    /// A superblock does not say how far slots have been in use.
    HighWaterNotStored,
    /// A superblock says of slots that they are free, because the one before it did.
    FreeExtentsNotRenewed,
    /// Only the layers that can be seen are taken to be in use.
    OtherLayersFree,
    /// Layers change while the journal still speaks of the old one.
    ChangeNotFolded,
    /// Epochs are committed while the layers change.
    CommitInChange,
}

#[cfg(test)]
impl Mutant {
    pub(super) const ALL: [Self; 24] = [
        Self::NoSync,
        Self::NextEpochBeforeSync,
        Self::CheckpointBeforeData,
        Self::SlotReusedEarly,
        Self::NoDataChecksum,
        Self::NoIncarnation,
        Self::NewIncarnationInPlace,
        Self::OpenWithoutRestart,
        Self::AllEpochsVerified,
        Self::SequenceNotChecked,
        Self::OneSuperblock,
        Self::ReserveIgnored,
        Self::ReadNotPinned,
        Self::StagingNotReplayed,
        Self::SyncStartedTakenAsDone,
        Self::DiscardReveals,
        Self::HeldByOneSuperblock,
        Self::StandingIgnored,
        Self::TreesNotScanned,
        Self::HighWaterNotStored,
        Self::FreeExtentsNotRenewed,
        Self::OtherLayersFree,
        Self::ChangeNotFolded,
        Self::CommitInChange,
    ];
}

#[cfg(test)]
thread_local! {
    static NOW: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Break this rule from now on, on this thread.
#[cfg(test)]
pub(super) fn set(mutant: Option<Mutant>) {
    NOW.set(mutant);
}

/// The rule that is broken now, on this thread.
#[cfg(test)]
pub(super) fn now() -> Option<Mutant> {
    NOW.get()
}

/// Whether this rule is broken now.
#[cfg(test)]
pub(super) fn is(mutant: Mutant) -> bool {
    NOW.get() == Some(mutant)
}

/// Whether this rule is broken now. Never.
#[cfg(not(test))]
pub(super) const fn is(_: Mutant) -> bool {
    false
}
