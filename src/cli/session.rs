//! The words of `cowroot session`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to do with the sessions of a cowfile.
#[derive(Debug, Args)]
pub struct Session {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// The actions.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show the sessions of a cowfile: which stands on which, which takes the writes
    List(List),
    /// Begin an empty session; the one it stands on is sealed, and stays as it is
    New(New),
    /// Let a session take no writes any more; if it took them, an empty one begins on it
    Seal(Seal),
    /// Give a session another name
    Rename(Rename),
    /// Drop all that was written to the session that takes the writes; the one below takes them again
    Rollback(Rollback),
    /// Drop a session that no other stands on and that does not take the writes
    Delete(Delete),
    /// Write what a session and those below it have over the base to one compressed, checksummed file
    Export(Export),
    /// Bring an exported session into a cowfile for the same base, as a session on the base
    Import(Import),
}

/// Whose sessions to show.
#[derive(Debug, Args)]
pub struct List {
    /// The cowfile: its first file, or a block device; or a device like /dev/ublkb0 that is in use
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// Where to begin a session.
#[derive(Debug, Args)]
pub struct New {
    /// The cowfile, which no device may be using; or a device like /dev/ublkb0, which may be in use: what was
    /// written so far is sealed, as it would be found after a power cut now (see fsfreeze)
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
    /// What to call it; default: session-2, session-3, …
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The session that it stands on, or `base`; default: the one that takes the writes
    #[arg(long, value_name = "SESSION")]
    pub on: Option<String>,
}

/// Which session to seal.
#[derive(Debug, Args)]
pub struct Seal {
    /// The cowfile, which no device may be using
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
    /// Which; default: the one that takes the writes
    #[arg(value_name = "SESSION")]
    pub session: Option<String>,
}

/// Which session to rename.
#[derive(Debug, Args)]
pub struct Rename {
    /// The cowfile, which no device may be using; or a device like /dev/ublkb0, which may be in use
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
    /// Which
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// What to call it
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Whose session to roll back.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The cowfile, which no device may be using
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
}

/// Which session to export.
#[derive(Debug, Args)]
pub struct Export {
    /// The cowfile: its first file, or a block device; no device may be using it
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
    /// Which; default: the one that takes the writes
    #[arg(value_name = "SESSION")]
    pub session: Option<String>,
    /// Where to; there must be nothing of this name
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// What to import.
#[derive(Debug, Args)]
pub struct Import {
    /// The cowfile, which no device may be using
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
    /// What `export` wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What to call the session; default: as it was called
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// Which session to delete.
#[derive(Debug, Args)]
pub struct Delete {
    /// The cowfile, which no device may be using
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
    /// Which
    #[arg(value_name = "SESSION")]
    pub session: String,
}
