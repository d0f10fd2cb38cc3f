//! Whatever a cowfile's bytes are: opening and reading it ends, without a panic, in bounded memory.
//!
//! The same code runs in `cargo test --test cowfiles`, on the corpus and fixed changes of it.

#![no_main]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::panic,
    dead_code,
    reason = "modules of a test, of which not all is used here"
)]

#[path = "../cowfiles/image.rs"]
mod image;
#[path = "../cowfiles/input.rs"]
mod input;
#[path = "../cowfiles/machine.rs"]
mod machine;
#[path = "../cowfiles/opening.rs"]
mod opening;
#[path = "../cowfiles/repair.rs"]
mod repair;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    input::run(bytes);
});
