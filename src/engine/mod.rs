//! The engine: what a request means and where each chunk lives. Does no I/O, keeps no time, does not log.
//!
//! Whoever drives it hands in requests (`submit`) and the outcomes of commands
//! (`complete`; both in `driven.rs`), and gets commands to run and requests that are done. Completions may come in
//! any order. One thread owns it all, so there are no locks to get wrong.

pub mod command;
pub mod cowfile;
pub mod driven;
pub mod format;
pub mod identity;
pub mod map;
pub mod merge;
pub mod plan;
pub mod stack;
pub mod turns;
pub mod units;
pub mod volatile;

#[cfg(test)]
mod simulation;
