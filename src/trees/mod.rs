//! Two trees of files side by side: what a session has added, changed and deleted in its base's; and that as a tar
//! archive, to carry it over to another base. And which files lie where damage is.
//!
//! The trees are mounted by whoever asks, and made by anybody: each name is looked up in its folder, which is open, and
//! no link is followed.

pub mod archive;
pub mod compare;
pub mod deletions;
pub mod entry;
mod folder;
pub mod places;
pub mod walk;

#[cfg(test)]
mod trees_tests;
