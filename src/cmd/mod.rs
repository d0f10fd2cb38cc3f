//! One file per subcommand: options in, engine or daemon called, result printed.

pub mod attach;
pub mod boot;
pub mod check;
pub mod create;
pub mod detach;
pub mod diff;
pub mod explain;
pub mod info;
mod interrupts;
pub mod merge;
pub mod meter;
pub mod progress;
pub mod serve;
pub mod session;
pub mod status;
pub mod upgrade;

use anyhow::Context;

use crate::cli::Command;
use crate::engine::units::parse_size_bytes;
use crate::kmsg::Reader;

/// A size that an option gives, in bytes.
fn size_of(option: &str, text: Option<&str>) -> anyhow::Result<Option<u64>> {
    let size = text.map(parse_size_bytes).transpose();
    size.map_err(anyhow::Error::msg)
        .with_context(|| format!("reading {option}"))
}

/// Where a command's log goes; `boot` decides for itself, when there is a /dev.
#[must_use]
pub fn reader_of_log(command: &Command) -> Option<Reader> {
    match command {
        Command::Serve(serve) if serve.kmsg => Some(Reader::Kernel),
        Command::TakeOver(from) if !from.is_trial => Some(Reader::Kernel),
        Command::Boot(_) => None,
        _ => Some(Reader::Stderr),
    }
}

/// What the program ends with: 1 failed, 2 wrong usage, 3 check found damage.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<crate::boot::cmdline::Problems>() {
        2
    } else if error.is::<check::Damaged>() {
        3
    } else {
        1
    }
}

/// Say so at once where root is needed, instead of whatever the kernel would refuse first.
fn require_root(doing: &str) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("{doing}: only root can; run it with sudo");
    }
    Ok(())
}
