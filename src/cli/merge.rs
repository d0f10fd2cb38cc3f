//! `cowroot merge`, as clap types.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

/// What to merge, and where to.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("to").required(true).args(["into", "output", "undo", "next_boot"]).multiple(true)))]
pub struct Merge {
    /// The cowfile: its first file, or a block device; with --next-boot also a device in use, like
    /// /dev/ublkb0. With --undo: that whose session goes back, too; default: the one that was merged
    #[arg(value_name = "COWFILE", required_unless_present = "undo")]
    pub cowfile: Option<PathBuf>,
    /// Write what the session changed to its base; the session stays usable, and empty. With --undo:
    /// the base to put back; default: the one that was merged into
    #[arg(long, value_name = "BASE", conflicts_with_all = ["output", "next_boot"])]
    pub into: Option<PathBuf>,
    /// Make a new image of base and session here; both stay as they are
    #[arg(long, value_name = "NEW", requires = "base", conflicts_with_all = ["undo", "next_boot"])]
    pub output: Option<PathBuf>,
    /// With --output: the base
    #[arg(long, value_name = "BASE", requires = "output", conflicts_with_all = ["into", "undo", "next_boot"])]
    pub base: Option<PathBuf>,
    /// Let the next boot merge, before it mounts the root
    #[arg(long, conflicts_with_all = ["undo", "dry_run", "progress"])]
    pub next_boot: bool,
    /// With --next-boot: do not, after all
    // A conflict with what it requires would cancel that: clap takes the one for more important.
    #[arg(long, requires = "next_boot", conflicts_with_all = ["into", "output", "undo", "keep", "free", "up_to"])]
    pub cancel: bool,
    /// Merge this session, by name or number, and those below it; default: all
    #[arg(long, value_name = "SESSION", conflicts_with = "undo")]
    pub up_to: Option<String>,
    /// Keep what is overwritten in this file, so that --undo can put it back
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "undo", "next_boot"])]
    pub undo_log: Option<PathBuf>,
    /// Go on with a merge that was begun with an undo log that is lost; nothing can be taken back then
    #[arg(long, requires = "into", conflicts_with_all = ["undo_log", "undo", "output", "next_boot"])]
    pub without_undo_log: bool,
    /// Put back what this undo log has kept, and the session on it, if the cowfile still has that
    #[arg(long, value_name = "FILE")]
    pub undo: Option<PathBuf>,
    /// With --undo: put back the base alone; a cowfile that stands on the merged base no longer fits
    #[arg(long, requires = "undo", conflicts_with_all = ["cowfile", "output", "next_boot"])]
    pub without_cowfile: bool,
    /// Keep the merged session in the cowfile until the one after it was used once (default)
    #[arg(long, conflicts_with_all = ["free", "output", "undo"])]
    pub keep: bool,
    /// Drop the merged session as soon as the base has it
    #[arg(long, conflicts_with_all = ["output", "undo"])]
    pub free: bool,
    /// Only say what would be done, and whether it can be
    #[arg(long, conflicts_with = "undo")]
    pub dry_run: bool,
    /// How to show how far it is
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    pub progress: Shown,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shown {
    /// A bar on a terminal, a line a second elsewhere
    Auto,
    /// Not at all
    None,
    /// A line of JSON a second, on standard output
    Json,
}
