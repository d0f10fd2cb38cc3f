//! Deliberate breaks of the merge, to see whether its simulation would notice.
//!
//! In a product's build `is` is always false, and nothing of this is left.

/// A rule that can be broken, for the thread that runs a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// The merged layers are retired before the base is synced.
    RetiredBeforeSync,
    /// The cowfile goes on wanting the base it was made for.
    IdentityNotUpdated,
    /// What a merge that is gone on with has done is taken on trust, as by a mark that is ahead of its data.
    ResumeTrusts,
    /// An undo record is written when its chunks are in the base.
    UndoAfterData,
    /// An undo record is not synced before its chunks are written.
    UndoNotSynced,
    /// A record of a process that ended is taken to be durable.
    LogTrusted,
    /// Chunks that are zeros are not merged.
    ZeroSkipped,
    /// The merged layers are dropped before the base has them.
    FreedEarly,
    /// The base is written before the superblocks say that it may be.
    CopiesBeforeSaying,
    /// A session that is served while a merge is under way goes on in a layer that is being merged.
    ServedInPlace,
    /// A base that is grown keeps its size when it is undone.
    SizeNotRestored,
    /// A new image has its name before it is durable.
    NamedBeforeSync,
}

#[cfg(test)]
impl Mutant {
    pub(super) const ALL: [Self; 12] = [
        Self::RetiredBeforeSync,
        Self::IdentityNotUpdated,
        Self::ResumeTrusts,
        Self::UndoAfterData,
        Self::UndoNotSynced,
        Self::LogTrusted,
        Self::ZeroSkipped,
        Self::FreedEarly,
        Self::CopiesBeforeSaying,
        Self::ServedInPlace,
        Self::SizeNotRestored,
        Self::NamedBeforeSync,
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
