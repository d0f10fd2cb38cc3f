//! The engine: what a request means and where each chunk lives. Does no I/O, keeps no time, does not log.

pub mod units;
