//! Cowfiles as others leave them: with bits flipped, made to do harm, made up by chance, and made long ago.
//!
//! All through the library's own doors: a store writes an image (`sample.rs`), something happens to it,
//! and it is opened and read (`opening.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod bitrot;
mod check;
mod corpus;
mod golden;
mod hostile;
mod image;
mod input;
mod layers;
mod machine;
mod opening;
mod repair;
mod sample;
mod scan;
mod torn;
