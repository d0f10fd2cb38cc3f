//! One file per subcommand: options in, engine or daemon called, result printed.

pub mod attach;
pub mod boot;
pub mod check;
mod concerned;
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

use std::path::Path;

use anyhow::{Context, bail};

use crate::cli::Command;
use crate::daemon::protocol::{Answer, Question, ask};
use crate::engine::units::parse_size_bytes;
use crate::kmsg::Reader;

/// A size that an option gives, in bytes.
fn size_of(option: &str, text: Option<&str>) -> anyhow::Result<Option<u64>> {
    let size = text.map(parse_size_bytes).transpose();
    size.map_err(anyhow::Error::msg)
        .with_context(|| format!("reading {option}"))
}

/// The number of a device that is served, if one is meant and not a cowfile.
fn device_in_use(path: &Path) -> anyhow::Result<Option<u32>> {
    let name = path.strip_prefix("/dev").unwrap_or(path);
    let is_device = name.to_str().is_some_and(|name| name.starts_with("ublkb"));
    let is_meant = is_device && !name.is_file();
    let id = is_meant.then(|| detach::device_id(&path.to_string_lossy()));
    id.transpose()
}

/// Ask a daemon, and print what it says.
fn say_answer(id: u32, question: &Question, doing: &str) -> anyhow::Result<()> {
    let context = || format!("{doing} of /dev/ublkb{id}");
    match ask(id, question)? {
        Some(Answer::Said(said)) => println!("{said}"),
        Some(Answer::Refused(why) | Answer::Failed(why)) => bail!("{}: {why}", context()),
        Some(_) => bail!("{}: its daemon answered something else", context()),
        None => bail!("{}: cowroot serves no such device", context()),
    }
    Ok(())
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
