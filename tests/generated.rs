//! What is generated and committed: man pages (docs/man) and completions (completions). They come from clap's
//! types in src/cli.rs, and the page on the kernel command line from the README's section. A plain test run says
//! which are stale; `make generated` is a run with COWROOT_GENERATE=1, which writes them anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

/// Content by path below the checkout.
type Files = BTreeMap<String, String>;

/// Where what is generated goes; nothing else is there.
const MAN: &str = "docs/man";
const COMPLETIONS: &str = "completions";

/// What roff writes before a text: an apostrophe for every roff there is.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

const CMDLINE: &str = "cowroot.cmdline";
const SECTION_OF_README: &str = "### The kernel command line";

#[test]
fn man_pages_and_completions_are_what_the_command_line_is() {
    let mut wanted = man_pages();
    wanted.extend(completions());
    if std::env::var_os("COWROOT_GENERATE").is_some() {
        return write(&wanted);
    }
    let found = committed();
    let names = wanted.keys().chain(found.keys());
    let mut stale: Vec<&str> = names
        .filter(|name| wanted.get(*name) != found.get(*name))
        .map(String::as_str)
        .collect();
    stale.sort_unstable();
    stale.dedup();
    assert!(
        stale.is_empty(),
        "stale: {}; src/cli.rs, Cargo.toml's version or the README's kernel command line has changed, so run \
         `make generated` and commit what it writes",
        stale.join(", ")
    );
}

/// Hidden commands are for cowroot itself.
#[test]
fn hidden_commands_are_in_none_of_them() {
    let cli = cowroot::cli::Cli::command();
    let hidden: Vec<&str> = cli
        .get_subcommands()
        .filter(|command| command.is_hide_set())
        .map(Command::get_name)
        .collect();
    assert!(hidden.contains(&"take-over"), "{hidden:?}");
    for (path, text) in man_pages().into_iter().chain(completions()) {
        // As a page of its own, as a case of a shell, as a word to complete.
        let text = text.replace("\\-", "-");
        for name in &hidden {
            let forms = [
                format!("cowroot-{name}"),
                format!("cowroot__subcmd__{name}"),
            ];
            let seen = forms.iter().find(|form| text.contains(*form));
            assert!(seen.is_none(), "{path} has the hidden '{name}'");
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '-');
            let is_word = *name == "take-over" && words.into_iter().any(|word| word == *name);
            assert!(!is_word, "{path} completes the hidden '{name}'");
        }
    }
}

/// The README is the page's only source: a row of its table is an entry, and every kind of markup is known.
#[test]
fn the_cmdline_page_has_every_row_of_the_table() {
    let readme = "# x\n### The kernel command line\n\n| word | means |\n|---|---|\n| `a[:<n>\\|:<p>%]` | one; see \
                  [it](docs/it.md) |\n\nWords `b`\nare wrong.\n\n```\na=1\n```\n### Next\n| `c` | two |\n";
    let page = cmdline_page(readme);
    let body = page.split_once(".TP").unwrap().1;
    assert_eq!(
        body,
        "\n\\fBa[:<n>|:<p>%]\\fR\none; see it\n.PP\nWords \\fBb\\fR are wrong.\n.PP\n.EX\na=1\n.EE\n.SH \"SEE ALSO\"\n\
         \\fBcowroot\\fR(8), \\fBcowroot\\-boot\\fR(8), \\fBcowroot\\-explain\\fR(8), \\fBbootparam\\fR(7)\n"
    );
}

fn write(wanted: &Files) {
    for folder in [MAN, COMPLETIONS] {
        let folder = root().join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
    }
    for (path, text) in wanted {
        fs::write(root().join(path), text).unwrap();
    }
}

fn committed() -> Files {
    let mut files = Files::new();
    for folder in [MAN, COMPLETIONS] {
        // A folder that is not there holds nothing: all of it is stale.
        let entries = fs::read_dir(root().join(folder)).into_iter().flatten();
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            files.insert(
                format!("{folder}/{name}"),
                fs::read_to_string(&path).unwrap(),
            );
        }
    }
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn man_pages() -> Files {
    // As on the command line, `cowroot attach`; but `help` needs no page.
    let mut cli = cowroot::cli::Cli::command().disable_help_subcommand(true);
    cli.build();
    let shown = cli.get_subcommands().filter(|sub| !sub.is_hide_set());
    let mut pages: Files = std::iter::once(&cli).chain(shown).map(man_page).collect();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    pages.insert(format!("{MAN}/{CMDLINE}.7"), cmdline_page(&readme));
    pages
}

/// A command's page and where it goes.
fn man_page(command: &Command) -> (String, String) {
    let man = Man::new(command.clone()).section("8");
    let man = man.source(source()).manual("System Administration");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let mut end = Roff::new();
    end.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in exit_codes(command.get_name()) {
        end.control("TP", []);
        end.text([bold(*code)]);
        end.text([roman(*meaning)]);
    }
    let mut others = vec![("cowroot", "8"), (CMDLINE, "7")];
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page).unwrap();
        others.remove(0);
    }
    see_also(&mut end, &others);
    end.to_writer(&mut page).unwrap();
    // Each part brings it; once is enough.
    let page = String::from_utf8(page).unwrap();
    let (first, rest) = page.split_at(PREAMBLE.len());
    assert_eq!(first, PREAMBLE);
    let path = format!("{MAN}/{}", man.get_filename());
    (path, format!("{first}{}", rest.replace(PREAMBLE, "")))
}

/// What main.rs and `cmd::exit_code` end with.
fn exit_codes(command: &str) -> &'static [(&'static str, &'static str)] {
    const ALL: &[(&str, &str)] = &[
        ("0", "Done."),
        (
            "1",
            "Failed; standard error says what, why, and what to do.",
        ),
        ("2", "Wrong usage."),
        ("3", "cowroot check found damage."),
    ];
    let count = if ["cowroot", "check"].contains(&command) {
        4
    } else {
        3
    };
    ALL.split_at(count).0
}

fn see_also(roff: &mut Roff, pages: &[(&str, &str)]) {
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (name, section) in pages {
        let comma = if line.is_empty() { "" } else { ", " };
        line.extend([roman(comma), bold(*name), roman(format!("({section})"))]);
    }
    roff.text(line);
}

fn source() -> String {
    format!("cowroot {}", env!("CARGO_PKG_VERSION"))
}

/// The README's section on the kernel command line as a page: a table's rows are entries.
fn cmdline_page(readme: &str) -> String {
    let section = readme.split_once(SECTION_OF_README);
    let (_, section) = section.unwrap_or_else(|| panic!("the README has no '{SECTION_OF_README}'"));
    let mut roff = Roff::new();
    roff.control("TH", [CMDLINE, "7", "", &source(), "Miscellanea"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!(
        "{CMDLINE} - what cowroot reads from the kernel command line"
    ))]);
    roff.control("SH", ["DESCRIPTION"]);
    let mut text = String::new();
    let mut is_code = false;
    for line in section.lines().skip(1).chain([""]) {
        if line.starts_with('#') && !is_code {
            break;
        }
        if line.starts_with("```") {
            is_code = !is_code;
            roff.control(if is_code { "PP" } else { "EE" }, []);
            if is_code {
                roff.control("EX", []);
            }
        } else if is_code {
            roff.text([roman(line)]);
        } else if let Some((word, means)) = row(line) {
            roff.control("TP", []);
            roff.text(inlines(&word));
            roff.text(inlines(&means));
        } else if line.is_empty() && !text.is_empty() {
            roff.control("PP", []);
            roff.text(inlines(text.trim_end()));
            text.clear();
        } else if !line.is_empty() && !line.starts_with('|') {
            text.push_str(line);
            text.push(' ');
        }
    }
    let commands = ["cowroot", "cowroot-boot", "cowroot-explain"].map(|name| (name, "8"));
    see_also(&mut roff, &[&commands[..], &[("bootparam", "7")]].concat());
    roff.to_roff()
}

/// The two cells of a table's row; none if it is a heading or no row.
fn row(line: &str) -> Option<(String, String)> {
    let cells = line
        .strip_prefix("| ")?
        .strip_suffix(" |")?
        .replace("\\|", "\0");
    let (word, means) = cells.split_once(" | ")?;
    let whole = |cell: &str| cell.replace('\0', "|");
    (word != "word").then(|| (whole(word), whole(means)))
}

/// Words in backticks are bold; of a link its text stays.
fn inlines(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    for (at, part) in text.split('`').enumerate() {
        let is_code = at % 2 == 1;
        parts.push(if is_code {
            bold(part)
        } else {
            roman(unlinked(part))
        });
    }
    parts.retain(|part| !matches!(part, Inline::Roman(text) if text.is_empty()));
    parts
}

fn unlinked(text: &str) -> String {
    let Some((before, rest)) = text.split_once('[') else {
        return text.to_owned();
    };
    let Some((name, rest)) = rest.split_once("](") else {
        return text.to_owned();
    };
    let Some((_, after)) = rest.split_once(')') else {
        return text.to_owned();
    };
    format!("{before}{name}{}", unlinked(after))
}

fn completions() -> Files {
    let shells = [Shell::Bash, Shell::Zsh, Shell::Fish];
    shells.into_iter().map(completion).collect()
}

/// A shell's file, under the name by which the shell finds it.
fn completion(shell: Shell) -> (String, String) {
    use clap_complete::Generator;
    let mut text = Vec::new();
    generate(shell, &mut shown(), "cowroot", &mut text);
    let path = format!("{COMPLETIONS}/{}", shell.file_name("cowroot"));
    (path, String::from_utf8(text).unwrap())
}

/// The command line without its hidden commands: clap_complete would offer them.
fn shown() -> Command {
    let full = cowroot::cli::Cli::command();
    let shown = full.get_subcommands().filter(|sub| !sub.is_hide_set());
    Command::new("cowroot")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .args(full.get_arguments().cloned())
        .subcommands(shown.cloned())
}
