//! An exported session, brought into a cowfile as a session on the base.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};

use super::cowfile::{self, Opened};
use super::export::{Export, Head, Record};
use super::session::{self, Action, BASE, active_name, change};
use crate::disk::cowfile::Mode;
use crate::disk::drive::{Data, Driver};
use crate::engine::command::Failure;
use crate::engine::format::description::{Identity, Sample};
use crate::engine::identity::compare;
use crate::engine::units::CHUNK_BYTES;

/// What a session is called that is not whole yet.
pub(super) const PART: &str = ".part";

/// Bring the export into the cowfile at `path`, under this name or its own. It takes the writes then. `progress` is told
/// how many bytes are written. Says in words what was done.
///
/// # Errors
/// It is of another base, damaged, or does not fit; or the cowfile's medium fails. The cowfile's sessions are as they
/// were, unless that fails, too: then one whose name ends in `.part` is left.
pub fn import(
    path: &Path,
    opened: Opened,
    (mut export, head): (Export<impl Read>, Head),
    name: Option<&str>,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<String> {
    let name = name.unwrap_or(head.session()).to_owned();
    let importing = || {
        format!(
            "importing session '{name}' into cowfile '{}'",
            path.display()
        )
    };
    session::require_free(&opened, &name).with_context(importing)?;
    require_same_base(&opened, &head).with_context(importing)?;
    let before = active_name(&opened);
    let part = session::part_name(&name, PART);
    let (opened, _) = change(path, opened, &Action::New(Some(&part), Some(BASE)))?;
    let written = write(opened, &mut export, progress).with_context(importing);
    let opened = cowfile::open(path, Mode::Write, None);
    let opened = match (opened, &written) {
        (Ok(opened), _) => opened,
        (Err(_), Err(_)) => {
            return written
                .map(|()| String::new())
                .context(format!("session '{part}' is left, in part"));
        }
        (Err(error), Ok(())) => return Err(error),
    };
    match written {
        Ok(()) => {
            change(path, opened, &Action::Rename(&part, &name))?;
            Ok(format!(
                "session '{name}' is there, stands on the base, and takes the writes"
            ))
        }
        Err(error) => {
            let undone = change(path, opened, &Action::Resume(&before))
                .and_then(|(opened, _)| change(path, opened, &Action::Delete(&part)));
            Err(match undone {
                Ok(_) => error.context("nothing was imported"),
                Err(other) => {
                    error.context(format!("session '{part}' is left, in part: {other:#}"))
                }
            })
        }
    }
}

fn write(
    opened: Opened,
    export: &mut Export<impl Read>,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<()> {
    let Opened { files, found, .. } = opened;
    let device_bytes = found.superblock.device_bytes;
    let mut driver = Driver::open(files, found).context("opening the cowfile")?;
    while let Some(record) = export.record().context("reading the export")? {
        let (Record::Data(first, _) | Record::Zeros(first, _)) = &record;
        let offset = first * CHUNK_BYTES;
        // The device may end within its last chunk.
        let left = device_bytes.saturating_sub(offset);
        let data = match &record {
            Record::Data(_, bytes) => {
                let len = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                Data::Bytes(bytes.get(..len).unwrap_or_default())
            }
            Record::Zeros(_, count) => Data::Zeros((count * CHUNK_BYTES).min(left)),
        };
        driver
            .write(offset, data)
            .map_err(|failure| match failure {
                Failure::NoSpace => anyhow::anyhow!("the cowfile is full"),
                Failure::Io => anyhow::anyhow!("the cowfile's medium fails"),
            })?;
        progress(offset);
    }
    driver.close().context("closing the cowfile")
}

fn require_same_base(opened: &Opened, head: &Head) -> anyhow::Result<()> {
    let ours = &opened.description.base;
    let theirs = head.base();
    // Each cowfile has samples of its own choice; those that both have count.
    let both = |one: &Identity, other: &Identity| {
        let known = |sample: &&Sample| other.samples.iter().any(|it| it.chunk == sample.chunk);
        Identity {
            samples: one.samples.iter().filter(known).copied().collect(),
            ..one.clone()
        }
    };
    if let Err(difference) = compare(&both(theirs, ours), &both(ours, theirs), None) {
        bail!(
            "it was written over another base than this cowfile's: {difference}; carry its files over instead, with \
             `cowroot diff --tar`"
        );
    }
    let device_bytes = opened.found.superblock.device_bytes;
    if head.device_bytes > device_bytes {
        bail!(
            "its device has {} bytes, this cowfile's {device_bytes}; make one with --size {}",
            head.device_bytes,
            head.device_bytes
        );
    }
    Ok(())
}
