//! What differs, for people and for scripts, as it is found: there may be a million of it.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::cli::diff::Diff;
use crate::media::text;
use crate::trees::compare::Change;
use crate::trees::entry::Kind;
use crate::trees::walk::Found;

/// A line of the list.
#[derive(Serialize)]
struct Line<'a> {
    path: String,
    /// Where the path is no UTF-8, and `path` therefore only looks like it.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<&'a [u8]>,
    change: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// What it was in the base.
    #[serde(skip_serializing_if = "Option::is_none")]
    base_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_size_bytes: Option<u64>,
    /// What of its metadata differs.
    metadata: Vec<&'static str>,
}

/// How many there are of a kind of change, and the bytes of their files.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Sum {
    count: u64,
    bytes: u64,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    added: Sum,
    content: Sum,
    metadata: Sum,
    #[serde(rename = "type")]
    kind: Sum,
    deleted: Sum,
    /// All that was looked at.
    compared: u64,
}

/// A list that is being printed.
pub(super) struct Show {
    to: Box<dyn Write>,
    json: bool,
    is_first: bool,
    summary: Summary,
}

impl Show {
    pub(super) fn begin(mut to: Box<dyn Write>, diff: &Diff) -> anyhow::Result<Self> {
        if diff.json {
            let version = json(&env!("CARGO_PKG_VERSION"))?;
            let cowfile = json(&diff.cowfile.display().to_string())?;
            let base = json(&diff.base.display().to_string())?;
            write!(to, "{{\n\"version\": {version},\n\"cowfile\": {cowfile},\n\"base\": {base},\n\"files\": [")
                .context(LISTING)?;
        }
        Ok(Self {
            to,
            json: diff.json,
            is_first: true,
            summary: Summary::default(),
        })
    }

    pub(super) fn tell(&mut self, found: &Found<'_>) -> anyhow::Result<()> {
        self.summary.compared += 1;
        let Some(entry) = found.entry() else {
            return Ok(());
        };
        if !found.change.is_worth_telling(entry.kind) {
            return Ok(());
        }
        let sum = match found.change {
            Change::None => return Ok(()),
            Change::Added => &mut self.summary.added,
            Change::Content(_) => &mut self.summary.content,
            Change::Metadata(_) => &mut self.summary.metadata,
            Change::Kind => &mut self.summary.kind,
            Change::Deleted => &mut self.summary.deleted,
        };
        sum.count += 1;
        sum.bytes += entry.size_bytes;
        let line = line(found, entry.kind);
        match self.json {
            true => {
                let comma = if self.is_first { "" } else { "," };
                self.is_first = false;
                write!(self.to, "{comma}\n{}", json(&line)?)
            }
            false => self.to.write_all(described(&line, found.path).as_bytes()),
        }
        .context(LISTING)
    }

    /// The sums, and a line on the archive.
    pub(super) fn end(mut self, archived: Option<String>) -> anyhow::Result<()> {
        match self.json {
            true => write!(self.to, "\n],\n\"summary\": {}\n}}\n", json(&self.summary)?),
            false => self.to.write_all(self.summary.described().as_bytes()),
        }
        .and_then(|()| match archived {
            Some(line) if !self.json => writeln!(self.to, "{line}"),
            _ => Ok(()),
        })
        .and_then(|()| self.to.flush())
        .context(LISTING)
    }
}

const LISTING: &str = "printing the list";

fn json(value: &impl Serialize) -> anyhow::Result<String> {
    serde_json::to_string(value).context("writing JSON")
}

fn line<'a>(found: &Found<'a>, kind: Kind) -> Line<'a> {
    let size = |entry: Option<crate::trees::entry::Entry>| entry.map(|entry| entry.size_bytes);
    let bytes = found.path.as_os_str().as_bytes();
    let (change, metadata) = match found.change {
        Change::None => ("none", Vec::new()),
        Change::Added => ("added", Vec::new()),
        Change::Content(aspects) => ("content", aspects.names()),
        Change::Metadata(aspects) => ("metadata", aspects.names()),
        Change::Kind => ("type", Vec::new()),
        Change::Deleted => ("deleted", Vec::new()),
    };
    Line {
        path: format!("/{}", found.path.to_string_lossy()),
        path_bytes: found.path.to_str().is_none().then_some(bytes),
        change,
        kind: kind.name(),
        base_type: found.base.map(|base| base.kind.name()),
        size_bytes: size(found.session),
        base_size_bytes: size(found.base),
        metadata,
    }
}

fn described(line: &Line<'_>, path: &Path) -> String {
    let size = text::size(line.size_bytes.or(line.base_size_bytes).unwrap_or_default());
    let mut notes = Vec::new();
    if line.change == "type" {
        notes.extend(line.base_type.map(|was| format!("was a {was}")));
    }
    if line.change == "content" && line.size_bytes != line.base_size_bytes {
        notes.extend(
            line.base_size_bytes
                .map(|was| format!("was {}", text::size(was))),
        );
    }
    if !line.metadata.is_empty() && line.change == "metadata" {
        notes.push(line.metadata.join(", "));
    }
    let notes = match notes.is_empty() {
        true => String::new(),
        false => format!(" ({})", notes.join("; ")),
    };
    format!(
        "{:<8}  {:<12}  {size:>10}  /{}{notes}\n",
        line.change,
        line.kind,
        printable(path)
    )
}

/// A path without what would drive a terminal or begin another line; a backslash stands before what it is not.
fn printable(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter.is_control() || letter == '\\' {
                true => text.extend(letter.escape_default()),
                false => text.push(letter),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

impl Summary {
    fn described(&self) -> String {
        let sum =
            |name: &str, sum: Sum| format!("{} {name} ({})", sum.count, text::size(sum.bytes));
        let sums = [
            sum("added", self.added),
            sum("changed", self.content),
            format!("{} in metadata only", self.metadata.count),
            format!("{} of another type", self.kind.count),
            sum("deleted", self.deleted),
        ];
        format!("{}; {} compared\n", sums.join(", "), self.compared)
    }
}
