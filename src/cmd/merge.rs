//! `cowroot merge`: a session into its base, into a new image, at the next boot, or back again.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

use super::concerned;
use super::meter::Meter;
use crate::cli::{Merge, Shown};
use crate::daemon::protocol::Question;
use crate::disk::lock::InUse;
use crate::engine::units::CHUNK_BYTES;
use crate::media::merge::{self, Phase, Report, Whose, Wishes};
use crate::media::text;

/// The last line of `--progress=json`: what came of it.
#[derive(Serialize)]
struct Ended {
    phase: &'static str,
    /// What was written to, or would be.
    place: String,
    /// From the top.
    sessions: Vec<String>,
    data_bytes: u64,
    zero_bytes: u64,
    /// What place has afterwards; not of an undo.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    /// About so long it takes where writing is as fast as reading; of what is only tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
    /// It was begun before.
    is_resumed: bool,
    /// Of an undo: whose session is on the base again.
    #[serde(skip_serializing_if = "Option::is_none")]
    cowfile: Option<String>,
}

/// Do what the options say.
///
/// # Errors
/// What stands in the way: nothing was changed then. Or what came of it halfway: the same again goes on.
pub fn run(options: &Merge) -> anyhow::Result<()> {
    let mut meter = Meter::new(options.progress);
    if let Some(log) = &options.undo {
        return undo(options, log, meter);
    }
    let cow = options.cowfile.as_deref().context("name a cowfile")?;
    if options.next_boot {
        return next_boot(options, cow);
    }
    let wishes = Wishes {
        up_to: options.up_to.as_deref(),
        frees: options.free,
        log: options.undo_log.as_deref(),
        without_log: options.without_undo_log,
        ..Wishes::default()
    };
    let began = Instant::now();
    let mut progress = |phase: Phase, done: u64, total: u64| meter.at(word(phase), done, total);
    let (merged, base, place) = match (&options.into, &options.output, &options.base) {
        (Some(base), ..) if options.dry_run => (
            merge::try_into_base(cow, base, &wishes, &mut progress),
            base,
            base,
        ),
        (Some(base), ..) => (
            merge::into_base(cow, base, &wishes, &mut progress),
            base,
            base,
        ),
        (_, Some(name), Some(base)) => (
            merge::output(cow, base, name, (&wishes, options.dry_run), &mut progress),
            base,
            name,
        ),
        _ => bail!(
            "merging '{}': name where to, with --into or --output",
            cow.display()
        ),
    };
    let files = |error| concerned::with_files(error, (cow, base), wishes.up_to);
    let report = merged.map_err(|error| of_a_root(files(error)))?;
    meter.done();
    let took = began.elapsed().as_secs_f64();
    let phase = match (options.dry_run, &options.output) {
        (_, None) if report.is_nothing() => "nothing to merge",
        (true, _) => "would merge",
        (false, None) => "merged",
        (false, Some(_)) => "made",
    };
    let ended = Ended {
        phase,
        place: place.display().to_string(),
        data_bytes: report.data_bytes(),
        zero_bytes: report.totals.zero_chunks * CHUNK_BYTES,
        sessions: report.sessions.iter().map(|name| bare(name)).collect(),
        cowfile: None,
        size_bytes: Some(report.base_bytes.1),
        seconds: options.dry_run.then(|| about_s(took)),
        is_resumed: report.is_resumed,
    };
    end(options, &ended, || described(options, &report, place, took))
}

/// A running root's session is in use, and not to be detached: who asks for its merge is told how it is done.
fn of_a_root(error: anyhow::Error) -> anyhow::Error {
    match error.is::<InUse>() {
        true => {
            anyhow::anyhow!("{error:#}; of a running root: cowroot merge /dev/ublkb0 --next-boot")
        }
        false => error,
    }
}

/// A name without the quotes it has for people.
fn bare(name: &str) -> String {
    let inner = name.strip_prefix('\'').and_then(|it| it.strip_suffix('\''));
    inner.unwrap_or(name).to_owned()
}

/// Say what came of it, as the progress was.
fn end(options: &Merge, ended: &Ended, words: impl FnOnce() -> String) -> anyhow::Result<()> {
    let said = match options.progress {
        Shown::Json => serde_json::to_string(ended).context("writing JSON")? + "\n",
        Shown::Auto | Shown::None => words(),
    };
    // It is done, whether somebody still listens or not.
    let _ = std::io::stdout().write_all(said.as_bytes());
    Ok(())
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Checking => "checking",
        Phase::Merging => "merging",
        Phase::Copying => "copying",
        Phase::Undoing => "undoing",
    }
}

/// Written, and read again: about three times as much moves as was read.
fn about_s(took_s: f64) -> u64 {
    Duration::from_secs_f64((took_s * 3.0).ceil()).as_secs()
}

fn described(options: &Merge, report: &Report, place: &Path, took_s: f64) -> String {
    let sessions = report.sessions.join(", ");
    if report.is_nothing() && options.output.is_none() {
        return format!("{sessions}: there is nothing to merge\n");
    }
    let zeros = report.totals.zero_chunks;
    let mut what = format!("{sessions}: {}", text::size(report.data_bytes()));
    let zeros_too = if zeros > 0 {
        ", and what the zeros take"
    } else {
        ""
    };
    if zeros > 0 {
        what.push_str(&format!(", and {zeros} chunks of zeros"));
    }
    let (before, after) = report.base_bytes;
    let grown = match before < after {
        true => format!(
            "; it grows from {} to {}",
            text::size(before),
            text::size(after)
        ),
        false => String::new(),
    };
    let place = place.display();
    if options.dry_run {
        let copied = match options.output {
            Some(_) => format!(
                "; the base's {} are copied besides, unless the file system can share them",
                text::size(before)
            ),
            None => String::new(),
        };
        let goes_on = if report.is_resumed {
            " (goes on with what was begun)"
        } else {
            ""
        };
        return format!(
            "would merge {what} into '{place}'{goes_on}{grown}\nnothing stands in the way; reading took {took_s:.1} s, \
             so about {} s where writing is as fast{zeros_too}{copied}\n`cowroot diff` shows which files differ\n",
            about_s(took_s)
        );
    }
    if options.output.is_some() {
        return format!("'{place}' is the base with {what}; base and cowfile are as they were\n");
    }
    format!(
        "merged {what} into '{place}'{grown}; {}",
        afterwards(options, report)
    )
}

/// What became of the sessions, and how to go back.
fn afterwards(options: &Merge, report: &Report) -> String {
    let then = match (report.is_partial, report.frees) {
        (true, _) => "the sessions above stand on the base now".to_owned(),
        (false, true) => "the cowfile has an empty session on it".to_owned(),
        (false, false) => {
            "the cowfile has an empty session on it; what was merged is kept until that was used once".to_owned()
        }
    };
    let begun = match (report.frees, options.free) {
        (true, false) => " (it was begun with --free)",
        (false, true) => " (it was begun without --free)",
        _ => "",
    };
    let log = options.undo_log.as_ref().map_or(String::new(), |log| {
        let what = match report.frees {
            true => "to put back the base alone, and lose what stands on it",
            false => "to take it back",
        };
        let alone = if report.frees {
            " --without-cowfile"
        } else {
            ""
        };
        format!("{what}: cowroot merge --undo '{}'{alone}\n", log.display())
    });
    format!("{then}{begun}\n{log}")
}

fn undo(options: &Merge, log: &Path, mut meter: Meter) -> anyhow::Result<()> {
    let mut progress = |phase: Phase, done: u64, total: u64| meter.at(word(phase), done, total);
    let base = options.into.as_deref();
    let whose = match &options.cowfile {
        _ if options.without_cowfile => Whose::Nobody,
        Some(cow) => Whose::At(cow),
        None => Whose::Merged,
    };
    let undone = merge::undo(log, base, whose, &mut progress)?;
    meter.done();
    let base = undone.base.display();
    let ended = Ended {
        phase: "put back",
        place: base.to_string(),
        sessions: Vec::new(),
        data_bytes: undone.chunks * CHUNK_BYTES,
        zero_bytes: 0,
        size_bytes: None,
        seconds: None,
        is_resumed: false,
        cowfile: undone.cowfile.as_ref().map(|cow| cow.display().to_string()),
    };
    end(options, &ended, || match &undone.cowfile {
        Some(cow) => format!(
            "'{base}' is as it was before the merge, and what was merged is in '{}' again\n",
            cow.display()
        ),
        None if undone.is_whole => format!(
            "'{base}' is as it was before the merge, alone: a cowfile on the merged base does not fit it\n"
        ),
        None => format!(
            "'{base}' is put back as far as this log tells, for its merge was cut; if that went on with \
             --without-undo-log, what it wrote then is still there\n"
        ),
    })
}

fn next_boot(options: &Merge, cow: &Path) -> anyhow::Result<()> {
    let frees = (!options.cancel).then_some(options.free);
    if let Some(id) = super::device_in_use(cow)? {
        super::require_root("asking for a merge")?;
        let question = Question::AskMerge(options.up_to.clone(), frees);
        return super::say_answer(id, &question, "asking for a merge");
    }
    let sessions = merge::ask(cow, options.up_to.as_deref(), frees).map_err(of_a_root)?;
    match options.cancel {
        true => println!("the next boot merges nothing"),
        false => println!(
            "the next boot merges {} into the base, before it mounts the root; --cancel takes that back",
            sessions.join(", ")
        ),
    }
    Ok(())
}
