//! `cowroot diff`, as clap types.

use std::path::PathBuf;

use clap::Args;

/// What to compare.
///
/// Both are mounted read-only, of devices that are served for it and taken away afterwards; nothing is written to cowfile,
/// base or their media. A journal that has to be replayed is replayed into RAM.
///
/// Each line of the list has what became of a name, its type, its size, its path, and in what it differs: 'added',
/// 'content' (perhaps with metadata), 'metadata' (only that), 'type' (another type of thing) or 'deleted'.
#[derive(Debug, Args)]
pub struct Diff {
    /// The cowfile: its first file, or a block device. No device may be writing to it
    #[arg(value_name = "COWFILE")]
    pub cowfile: PathBuf,
    /// The base it was made for; another one is refused
    #[arg(long, value_name = "PATH")]
    pub base: PathBuf,
    /// Which session of the cowfile; default: the one that takes the writes
    #[arg(long, value_name = "NAME")]
    pub session: Option<String>,
    /// Of a base that is a whole partitioned disk: the partition whose files are compared
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
    /// One JSON document instead of text
    #[arg(long)]
    pub json: bool,
    /// Write what was added and changed to a tar archive (pax: owners, modes, times, extended attributes, hard links,
    /// nodes), with the directories that lead there. What was deleted, or is in the way, is listed in FILE.deleted, each path
    /// ended by NUL. To carry it over, in the new root: 'xargs -0r rm -rf -- <FILE.deleted', then 'tar -xpf FILE
    /// --numeric-owner --xattrs --xattrs-include=*'. '-' is standard output: then there is no such list, and what else is
    /// printed goes to standard error
    #[arg(long, value_name = "FILE")]
    pub tar: Option<PathBuf>,
}
