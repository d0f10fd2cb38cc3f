//! What a superblock says of a merge into the base.

use super::superblock::RawSuperblock;

/// How far a merge has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MergeState {
    /// Nobody wants one, or the last one is over.
    #[default]
    None,
    /// The next boot is to merge.
    Asked,
    /// Any part of what is merged may be in the base.
    UnderWay,
}

/// A merge into the base; docs/format.md has the fields' meaning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merge {
    /// How far it is.
    pub state: MergeState,
    /// The topmost layer that is merged.
    pub top: u8,
    /// The merged layers are dropped as soon as it is over.
    pub frees: bool,
    /// What is kept of the last merge has been below a session that was served.
    pub served: bool,
    /// What it overwrites is kept in an undo log.
    pub is_logged: bool,
    /// Which merge; an undo log has the same number.
    pub id: u64,
    /// A bit for each layer that is in the base, and kept all the same.
    pub kept: u64,
}

impl Merge {
    const FREES: u16 = 1;
    const SERVED: u16 = 2;
    const LOGGED: u16 = 4;

    /// Whether this layer is in the base already.
    #[must_use]
    pub fn keeps(&self, layer: u8) -> bool {
        1_u64
            .checked_shl(layer.into())
            .is_some_and(|bit| self.kept & bit != 0)
    }

    pub(super) fn encode(&self, raw: &mut RawSuperblock) {
        raw.merge = match self.state {
            MergeState::None => 0,
            MergeState::Asked => 1,
            MergeState::UnderWay => 2,
        };
        raw.merge_top = self.top;
        let flag = |is_set, bit| if is_set { bit } else { 0 };
        let flags = flag(self.frees, Self::FREES)
            | flag(self.served, Self::SERVED)
            | flag(self.is_logged, Self::LOGGED);
        raw.merge_flags = flags.into();
        raw.merge_id = self.id.into();
        raw.merged = self.kept.into();
    }

    pub(super) fn decode(raw: &RawSuperblock) -> Self {
        let flags = raw.merge_flags.get();
        Self {
            state: match raw.merge {
                1 => MergeState::Asked,
                2 => MergeState::UnderWay,
                _ => MergeState::None,
            },
            top: raw.merge_top,
            frees: flags & Self::FREES != 0,
            served: flags & Self::SERVED != 0,
            is_logged: flags & Self::LOGGED != 0,
            id: raw.merge_id.get(),
            kept: raw.merged.get(),
        }
    }
}
