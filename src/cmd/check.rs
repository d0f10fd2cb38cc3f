//! `cowroot check`: a cowfile read whole, what is damaged told, and, with `--repair`, mended.
//!
//! What a repair overwrites is kept in a file first: `COWRSAVE`, then for each slot its number, how many bytes
//! follow (0: it did not read), and these; numbers are of 32 bits, little-endian.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::progress::Progress;
use crate::cli::Check;
use crate::disk::cowfile::{CowFiles, Mode};
use crate::disk::target::sync_folder;
use crate::engine::cowfile::check::{Depth, Report, Stretch, check};
use crate::engine::cowfile::layers::merging::merged_with;
use crate::engine::cowfile::recover::Medium;
use crate::engine::cowfile::repair::{NotRepaired, Repair, Wishes, plan};
use crate::engine::cowfile::trouble::Trouble;
use crate::engine::format::Shape;
use crate::engine::format::description::{Description, Event, EventKind, Sample, room};
use crate::engine::format::superblock::{DESCRIPTION_VERSION, MergeState};
use crate::engine::units::{CHUNK_BYTES, CHUNK_LEN};
use crate::sys;

/// Check found damage, and it is still there: exit code 3.
#[derive(Debug)]
pub struct Damaged(String);

impl fmt::Display for Damaged {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(to)
    }
}

impl std::error::Error for Damaged {}

/// What a repair that gives nothing up does about what is lost.
const STAYS_LOST: &str =
    "what is lost goes on reading as errors; --repair --drop-damaged lets what is below it show";

/// Check a cowfile, and repair it if asked for.
///
/// # Errors
/// It cannot be checked; or `Damaged`.
pub fn run(options: &Check) -> anyhow::Result<()> {
    let path = &options.cowfile;
    let checking = || format!("checking cowfile '{}'", path.display());
    let mode = if options.repair {
        Mode::Write
    } else {
        Mode::Read
    };
    let mut files = CowFiles::open(path, mode).with_context(checking)?;
    files.take_any_header();
    let report = read(&mut files).with_context(checking)?;
    print!("{}", describe(&report));
    let is_to_be_mended = options.repair && report.is_mendable();
    if report.is_clean() && !is_to_be_mended {
        return Ok(());
    }
    let still_there = |why: &str| Damaged(format!("{}: damaged; {why}", checking()));
    if !options.repair {
        return Err(still_there(
            "--repair mends what loses nothing, --repair --drop-damaged the rest",
        )
        .into());
    }
    if !report.is_mendable() && !options.drop_damaged {
        return Err(still_there(STAYS_LOST).into());
    }
    let wishes = wishes(&report, options)?;
    let repair = plan(&mut files, &report, wishes).map_err(|why| still_there(words(why)))?;
    save(&mut files, &repair, &place(options)?)?;
    repair
        .run(&mut files)
        .map_err(|why| still_there(words(why)))?;
    let report = read(&mut files).with_context(checking)?;
    println!("after the repair:");
    print!("{}", describe(&report));
    match report.is_clean() {
        true => Ok(()),
        false => Err(still_there(STAYS_LOST).into()),
    }
}

/// Read all of it. What cannot even be followed is damage, too; but not what is none, or another's.
fn read(files: &mut CowFiles) -> anyhow::Result<Report> {
    let mut progress = Progress::new("checking", u64::from(files.slots()) * CHUNK_BYTES);
    let mut done = 0;
    let report = check(files, Shape::PRODUCT, Depth::Everything, &mut |bytes| {
        done += bytes;
        progress.at(done);
    });
    progress.done();
    report.map_err(|trouble| match trouble {
        Trouble::Refused(_) | Trouble::OtherVersion(_) | Trouble::NotACowfile => trouble.into(),
        trouble => Damaged(trouble.to_string()).into(),
    })
}

fn describe(report: &Report) -> String {
    let mut lines = Vec::new();
    if let Some(slot) = report.superblock {
        lines.push(format!(
            "the superblock at slot {slot} {}; the other one counts, nothing is lost",
            match report.superblock_fails {
                true => "does not read, or is not this cowfile's",
                false => "is not whole, as a power cut leaves it; the next write after an attach writes it again",
            }
        ));
    }
    if let Some(cut) = &report.cut {
        let lost = match cut.acknowledged {
            true => "commits that were durable are lost",
            false => "the last commit may be lost",
        };
        let epoch = report.found.epoch;
        lines.push(format!(
            "the journal is whole up to epoch {epoch}; {lost}: {}",
            cut.trouble
        ));
    }
    for slot in &report.headers {
        lines.push(format!(
            "the header at slot {slot}, of a file that continues it, is not whole; nothing is lost"
        ));
    }
    if report.older {
        lines.push("what only the older superblock leads to is damaged; nothing is lost".into());
    }
    let end = report.found.superblock.device_bytes;
    for (list, what) in [
        (&report.lost, "lost"),
        (&report.twice, "in a slot that is named twice"),
        (&report.beyond, "in a slot that may be taken for free"),
    ] {
        lines.extend(list.iter().map(|it| stretch(it, end, what)));
    }
    let census = &report.census;
    let named = census.named;
    lines.push(format!(
        "{} chunks, {} pages of trees, {} of the journal; {} of {} slots used, {} of them garbage",
        named.chunks,
        named.pages,
        named.journal,
        census.used(),
        census.total,
        census.garbage()
    ));
    let damage = if report.is_clean() {
        "no damage"
    } else {
        "damaged"
    };
    let torn = match report.found.torn {
        true => "; a commit was cut off, as by a power cut: the one before counts",
        false => "",
    };
    lines.push(format!("{damage}, epoch {}{torn}", report.found.epoch));
    lines.join("\n") + "\n"
}

fn stretch(it: &Stretch, device_bytes: u64, what: &str) -> String {
    let (start, end) = (
        it.start * CHUNK_BYTES,
        (it.end * CHUNK_BYTES).min(device_bytes),
    );
    format!(
        "layer {}: bytes {start} to {end} of the device: {what} (slot {})",
        it.layer, it.slot
    )
}

fn words(why: NotRepaired) -> &'static str {
    match why {
        NotRepaired::ReadOnly => "a newer cowroot has to write it; repair it with that",
        NotRepaired::WouldLose => {
            "a repair would lose durable commits; --drop-damaged goes back to those before"
        }
        NotRepaired::NoRoom => {
            "there are too few free slots to repair it; copy it, and attach the copy"
        }
        NotRepaired::Unreadable => "what was read before does not read now; copy it with ddrescue",
        NotRepaired::Implausible => {
            "nothing would open it afterwards: this is a bug in cowroot; its superblocks are as they were"
        }
        NotRepaired::Failed(_) => "its medium does not take writes; copy it to another",
    }
}

fn wishes(report: &Report, options: &Check) -> anyhow::Result<Wishes> {
    let superblock = &report.found.superblock;
    let repairing = || format!("repairing cowfile '{}'", options.cowfile.display());
    let mut about = Description::decode(DESCRIPTION_VERSION, &superblock.description)
        .map_err(|fault| anyhow::anyhow!("{}: {fault}", repairing()))?;
    if options.drop_damaged && superblock.merge.state == MergeState::UnderWay {
        let merged = merged_with(superblock, superblock.merge.top);
        let lost = report.lost.iter().filter(|it| merged.contains(&it.layer));
        no_longer_known(&mut about.base.samples, lost);
    }
    about.history.push(Event {
        at_s: sys::now_s(),
        kind: EventKind::Repaired,
        text: match (report.loses(), options.drop_damaged) {
            (true, true) => "dropped what was damaged".into(),
            _ => "nothing dropped".into(),
        },
    });
    let description = about
        .encode(room(Shape::PRODUCT))
        .map_err(|fault| anyhow::anyhow!("{}: {fault}", repairing()))?;
    let random = sys::random().context("asking the kernel for a random number")?;
    Ok(Wishes {
        drop_damaged: options.drop_damaged,
        incarnation: u64::from_le_bytes(random),
        description,
    })
}

/// What was being merged where something is dropped may be in the base already: nobody can tell then what it is to be.
fn no_longer_known<'a>(samples: &mut Vec<Sample>, lost: impl Iterator<Item = &'a Stretch>) {
    for it in lost {
        samples.retain(|sample| !(it.start..it.end).contains(&sample.chunk));
    }
}

/// Where what is replaced goes.
fn place(options: &Check) -> anyhow::Result<PathBuf> {
    let path = &options.cowfile;
    if let Some(save) = &options.save {
        return Ok(save.clone());
    }
    if std::fs::metadata(path)?.file_type().is_block_device() {
        bail!(
            "repairing '{}': name a file for what is replaced with --save",
            path.display()
        );
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".repair-{}", sys::now_s()));
    Ok(name.into())
}

/// Keep what will be overwritten, durably.
fn save(files: &mut CowFiles, repair: &Repair, to: &Path) -> anyhow::Result<()> {
    let saving = || {
        format!(
            "saving what is replaced to '{}'; nothing was repaired",
            to.display()
        )
    };
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(to)
        .with_context(saving)?;
    let mut out = BufWriter::new(file);
    out.write_all(b"COWRSAVE").with_context(saving)?;
    for (first, count) in repair.replaces() {
        for slot in first..first + count {
            let mut bytes = vec![0; CHUNK_LEN];
            if files.read(slot, &mut bytes).is_err() {
                bytes.clear();
            }
            let len = u32::try_from(bytes.len()).unwrap_or_default();
            for part in [&slot.to_le_bytes(), &len.to_le_bytes(), bytes.as_slice()] {
                out.write_all(part).with_context(saving)?;
            }
        }
    }
    let file = out
        .into_inner()
        .map_err(|error| error.into_error())
        .with_context(saving)?;
    file.sync_all().with_context(saving)?;
    sync_folder(to).with_context(saving)?;
    println!("what is replaced is kept in '{}'", to.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cowfile::check::Source;

    #[test]
    fn a_base_is_not_known_by_what_may_be_old_or_merged() {
        let sample = |chunk| Sample { chunk, crc: 1 };
        let lost = |start, end| Stretch {
            layer: 0,
            source: Source::Tree,
            start,
            end,
            slot: 9,
        };
        let mut samples: Vec<Sample> = [0, 5, 9, 10].map(sample).to_vec();
        no_longer_known(&mut samples, [lost(5, 6), lost(8, 10)].iter());
        assert_eq!(samples, [0, 10].map(sample));
    }
}
