//! `cowroot explain`: what a kernel command line would do, in plain words, without doing it.

use std::io::Write;

use anyhow::Context;

use crate::boot::cmdline::{Cow, Plan, RootWords};
use crate::boot::merge::MergePolicy;
use crate::cli;
use crate::media::cow_source::{CowSource, Fallback};
use crate::media::open::{Durability, TmpfsSize};
use crate::media::session::Wish;
use crate::media::source::{Base, Share, Source};
use crate::media::text;

const COLUMNS: usize = 80;

/// Print what would be done.
///
/// # Errors
/// A [`crate::boot::cmdline::Problems`] with all that is wrong with the command line.
pub fn run(options: &cli::Explain) -> anyhow::Result<()> {
    let plan = Plan::parse(&options.cmdline)?;
    std::io::stdout()
        .write_all(text_of(&plan).as_bytes())
        .context("printing the explanation")
}

fn text_of(plan: &Plan) -> String {
    let steps = steps(plan);
    let steps = (1..).zip(steps);
    steps
        .map(|(number, step)| folded(&format!("{number}. "), &step))
        .collect()
}

fn steps(plan: &Plan) -> Vec<String> {
    let mut steps = vec![
        "Load the module ublk_drv and, as hardware turns up, its drivers: those that the initramfs \
         holds."
            .into(),
    ];
    match &plan.base.medium {
        Source::Nfs(share) => steps.extend(server(share, plan)),
        device => {
            steps.push(format!(
                "Wait for {}, at most {} s; if it is not there by then, or two answer to that name, \
                 stop.",
                medium(device),
                plan.wait.as_secs()
            ));
            steps.push(match plan.base.path.is_empty() {
                true => "Make it read-only; all of it is the base.".into(),
                false => {
                    "Make it read-only and mount it at '/run/cowroot/medium' so that no journal is \
                          replayed: nothing on it changes."
                        .into()
                }
            });
        }
    }
    steps.extend(base(&plan.base));
    steps.extend(cow(plan));
    steps.extend(lost(plan));
    steps.extend(root(&plan.root));
    if plan.debug {
        steps.push("Log every step on the way, not just each change of state.".into());
    }
    steps.push(
        "If a step fails: log what and why, start /bin/sh if the initramfs has it, else end, which \
         is a kernel panic; panic=<s> on the command line then restarts the machine."
            .into(),
    );
    steps
}

fn medium(source: &Source) -> String {
    match source {
        Source::Label(name) => format!("the medium whose file system is labelled '{name}'"),
        Source::Uuid(name) => format!("the medium whose file system has the UUID '{name}'"),
        Source::PartUuid(name) => format!("the partition whose UUID is '{name}'"),
        Source::PartLabel(name) => format!("the partition named '{name}'"),
        Source::Device(path) => format!("the device '{}'", path.display()),
        Source::Nfs(share) => format!("the server '{}'", share.server),
    }
}

fn server(share: &Share, plan: &Plan) -> Vec<String> {
    let versions: Vec<String> = plan.nfs.versions.iter().map(ToString::to_string).collect();
    let options = match plan.nfs.rest.as_str() {
        "" => String::new(),
        rest => format!(", with the options '{rest}'"),
    };
    let words = match plan.ip.is_empty() {
        true => "the word ip=".to_owned(),
        false => format!("ip={}", plan.ip.join(" ip=")),
    };
    vec![
        format!(
            "Wait for {} to answer over the network, at most {} s. The initramfs brings that up by its own means, a \
             bare one by {words} (the kernel, or cowroot where the kernel does not).",
            medium(&plan.base.medium),
            plan.wait.as_secs()
        ),
        format!(
            "Mount its export '{}' read-only at '/run/cowroot/medium', by the first version of NFS that it \
             speaks of {}{options}. If the server is away later it is waited for, however long.",
            share.export,
            versions.join(", ")
        ),
    ]
}

fn base(base: &Base) -> Vec<String> {
    let Some((last, images)) = base.path.split_last() else {
        return Vec::new();
    };
    let mut steps = Vec::new();
    for image in images {
        steps.push(format!("Mount the image '{image}' in it, read-only."));
    }
    steps.push(format!("Take the file '{last}' in it as the base."));
    steps
}

fn cow(plan: &Plan) -> Vec<String> {
    let size = match &plan.cow {
        Cow::Tmpfs(TmpfsSize::Bytes(bytes)) => text::size(*bytes),
        Cow::Tmpfs(TmpfsSize::Percent(percent)) => {
            format!("{percent} % of the machine's RAM")
        }
        Cow::Medium(source) => return on_medium(source, plan),
    };
    vec![format!(
        "Serve the base as a writable block device, /dev/ublkb0. What is written goes to RAM, to at most {size}, \
         and is gone when the machine stops."
    )]
}

fn on_medium(source: &CowSource, plan: &Plan) -> Vec<String> {
    let medium = medium(&source.medium);
    let writable = match plan.session {
        Wish::Throwaway => " read-only",
        _ => " to be written",
    };
    let place = match &source.path {
        Some(path) => format!(
            "Wait for {medium} too, mount it at '/run/cowroot/cow'{writable}, and take the file '{path}' in it as the \
             cowfile"
        ),
        None => format!("Wait for {medium} too, and take all of it as the cowfile"),
    };
    let otherwise = match plan.fallback {
        Fallback::Fail => "stop",
        Fallback::Tmpfs => "go on with half of the RAM, and say that nothing will be kept",
    };
    let made = match source.create {
        Some(_) => format!("; make it if it is missing. If the medium is not there, {otherwise}"),
        None => format!("; if one of them is not there, {otherwise}"),
    };
    if plan.session == Wish::Throwaway {
        return vec![
            format!("{place}; if it is not there, {otherwise}. Nothing is written to it."),
            "Serve the base with the cowfile's session over it as a writable block device, /dev/ublkb0. What is written \
             goes to RAM, to at most half of it, and is gone when the machine stops."
                .into(),
        ];
    }
    let session = match &plan.session {
        Wish::New(Some(name)) => format!("a new session, '{name}', begun on the last one"),
        Wish::New(None) => "a new session, begun on the last one".into(),
        Wish::Resume(Some(name)) => format!("the session '{name}'"),
        Wish::Resume(None) | Wish::Throwaway => "the session that took them last".into(),
    };
    let kept = match plan.durability {
        Durability::Flush => "with each sync".into(),
        Durability::Interval(seconds) => format!("every {seconds} s"),
        Durability::Shutdown => "when the machine is shut down".into(),
    };
    let merged = match plan.merge {
        MergePolicy::Requested => {
            "If `cowroot merge --next-boot` asked for it, or a merge was begun, write what the session changed to the base."
        }
        MergePolicy::Yes => "Write what the session changed to the base, if it changed anything.",
        MergePolicy::No => "Merge nothing, whatever was asked for.",
    };
    vec![
        format!("{place}{made}."),
        merged.to_owned(),
        format!(
            "Serve the base as a writable block device, /dev/ublkb0. What is written goes to the cowfile, to {session}, \
             and is safe there {kept}."
        ),
    ]
}

/// What of it can be pulled out.
fn lost(plan: &Plan) -> Option<String> {
    let is_local = !matches!(plan.base.medium, Source::Nfs(_));
    let wait_s = plan.lost_s;
    let is_waited_for = wait_s > 0 && (is_local || matches!(plan.cow, Cow::Medium(_)));
    is_waited_for.then(|| {
        format!(
            "If a medium is pulled out later, reads and writes wait for the same one, at most {wait_s} s; then they fail."
        )
    })
}

fn root(words: &RootWords) -> Vec<String> {
    let kind = match &words.kind {
        Some(kind) => format!("as {kind}"),
        None => "by the type that is found on it".into(),
    };
    let access = if words.read_only {
        "read-only"
    } else {
        "writable"
    };
    let options = match &words.options {
        Some(options) => format!(", with the options '{options}'"),
        None => String::new(),
    };
    let init = match &words.init {
        Some(init) => format!("'{init}'"),
        None => "the first there is of /sbin/init, /etc/init, /bin/init, /bin/sh".into(),
    };
    let args = if words.init_args.is_empty() {
        String::new()
    } else {
        format!(" with the arguments '{}'", words.init_args.join(" "))
    };
    vec![
        format!("Mount that device {kind}, {access}{options}."),
        "Move /dev, /proc, /sys and /run into it, free the initramfs, and make it the root.".into(),
        format!("Execute {init}{args}."),
    ]
}

/// `text` in lines of at most [`COLUMNS`], the first after `mark`, the others below its text.
fn folded(mark: &str, text: &str) -> String {
    let indent = " ".repeat(mark.len());
    let mut folded = String::new();
    let mut line = mark.to_owned();
    for word in text.split_whitespace() {
        let is_empty = line.ends_with(' ');
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            folded.push_str(&line);
            folded.push('\n');
            line.clone_from(&indent);
        } else if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
    }
    folded + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(words: &str) -> String {
        text_of(&Plan::parse(words).unwrap())
    }

    #[test]
    fn what_each_word_changes_is_said_in_order() {
        let text = explain(
            "cowroot=LABEL=LIVE:/a.sqfs!/root.img cowroot.cow=tmpfs:1G cowroot.wait=7 ro \
             cowroot.lost=9 rootfstype=ext4 rootflags=noatime init=/bin/bash -- -l",
        );
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut from = 0;
        for part in [
            "labelled 'LIVE', at most 7 s",
            "no journal is replayed",
            "Mount the image '/a.sqfs'",
            "Take the file '/root.img'",
            "to at most 1 GiB",
            "is pulled out later, reads and writes wait for the same one, at most 9 s",
            "as ext4, read-only, with the options 'noatime'",
            "Execute '/bin/bash' with the arguments '-l'",
        ] {
            let found = flat.get(from..).unwrap().find(part);
            from += found.unwrap_or_else(|| panic!("'{part}' is missing or too early:\n{text}"));
        }
    }

    #[test]
    fn every_line_fits_a_terminal() {
        for words in [
            "cowroot=/dev/vda2 cowroot.debug",
            "cowroot=UUID=11111111-2222-3333-4444-555555555555:/a/b/c/d/e.img rootflags=a,b,c",
            "cowroot=nfs:[2001:db8::1]:/export:/a.img cowroot.nfsopts=vers=4.1,nconnect=2 ip=auto6",
        ] {
            let text = explain(words);
            assert!(
                text.lines().all(|line| line.chars().count() <= 80),
                "{text}"
            );
            assert!(text.lines().count() > 8, "{text}");
        }
    }
}
