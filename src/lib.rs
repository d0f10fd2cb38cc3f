//! cowroot: a writable root file system on a base that must not be written.
//!
//! The library behind the `cowroot` binary. Its modules are rooms on floors; a room uses only what
//! stands below it (`tests/rooms.rs` holds the arrows, `docs/design.md` explains them).
//!
//! ```text
//! 6  cmd      one file per subcommand
//! 5  boot     the initramfs entry: kernel command line → medium → device → root
//! 4  daemon   the process that serves a device: start, survive, answer, stop
//! 3  media    find a medium, see what is on it, mount it, open what it holds
//! 3  ublk     the block device: requests in, completions out (the only user of libublk)
//! 2  disk     runs the engine's commands on files and block devices
//! 1  engine   what a request means and where chunks live; does no I/O
//! 1  trees    two trees of files compared, and what differs as an archive
//! 1  cli      clap types · kmsg: where log lines go · sys: the one place with `unsafe`
//! ```

pub mod boot;
pub mod cli;
pub mod cmd;
pub mod daemon;
pub mod disk;
pub mod engine;
pub mod kmsg;
pub mod media;
pub mod sys;
pub mod trees;
pub mod ublk;
