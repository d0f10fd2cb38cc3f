//! The persistent store: what is written survives power cuts, as docs/format.md promises.

pub mod delta;
pub mod space;
pub mod staging;
pub mod trees;
