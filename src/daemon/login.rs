//! What whoever logs in to a machine must know of its root: that its cowfile is nearly full, or a medium is gone. What is
//! known from the start boot/login.rs tells.
//!
//! The daemon has left the machine's mounts, so it keeps the folder /run, which moves to the root with what is in it. It
//! does so through a mount of its own, and nobody finds /run in use.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::Receiver;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Where pam_motd(8) and agetty(8) look, below /run.
const FOLDERS: [&str; 2] = ["motd.d", "issue.d"];
const FULL: [&str; 2] = ["motd.d/cowroot-full", "issue.d/cowroot-full.issue"];
const LOST: [&str; 2] = ["motd.d/cowroot-lost", "issue.d/cowroot-lost.issue"];

/// The machine's /run, with folders for what is to be said: they cannot be made later. `None` where it has none.
pub(super) fn open(run: &Path) -> Option<File> {
    let opened = || {
        for folder in FOLDERS {
            std::fs::create_dir_all(run.join(folder))?;
        }
        File::open(run)
    };
    opened()
        .inspect_err(|error: &std::io::Error| {
            log::warn!(
                "keeping '{}': {error}; a login will not say when the cowfile runs full",
                run.display()
            );
        })
        .ok()
}

/// What logins are shown.
pub(super) struct Board {
    pub(super) run: File,
    /// How full the cowfile is, in percent; 0 is not worth a word.
    pub(super) steps: Receiver<u64>,
}

impl Board {
    /// Show each step that is heard, until there are no more.
    pub(super) fn mind(&self) {
        // What another worker said may be over.
        tell(&self.run, 0);
        for step in &self.steps {
            tell(&self.run, step);
        }
        tell(&self.run, 0);
    }
}

fn tell(run: &File, step: u64) {
    let text = format!(
        "the cowfile is more than {step} % full: delete files (and run fstrim where the file system does not discard); \
         `cowroot status` says more"
    );
    say(run, FULL, Some(&text).filter(|_| step > 0));
}

/// Show what is wrong with a medium, or that nothing is any more.
pub(super) fn tell_lost(run: Option<&File>, text: Option<&str>) {
    if let Some(run) = run {
        say(run, LOST, text);
    }
}

fn say<T: AsRef<str>>(run: &File, places: [&str; 2], text: Option<T>) {
    for place in places {
        let told = match &text {
            None => remove(run, place),
            Some(text) => write(run, place, text.as_ref()),
        };
        if let Err(error) = told {
            log::debug!("saying something at login: /run/{place}: {error}");
        }
    }
}

fn write(run: &File, place: &str, text: &str) -> std::io::Result<()> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IROTH;
    let mut file = File::from(openat(run.as_fd(), place, flags, mode)?);
    file.write_all(format!("cowroot: {text}\n").as_bytes())
}

fn remove(run: &File, place: &str) -> std::io::Result<()> {
    match unlinkat(run.as_fd(), place, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_says_how_full_it_is_until_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let run = open(folder.path()).unwrap();
        let places = FULL.map(|place| folder.path().join(place));
        let (told, steps) = std::sync::mpsc::channel();
        let minding = std::thread::spawn(move || Board { run, steps }.mind());
        for (step, says) in [(80, "80 %"), (95, "95 %"), (80, "80 %")] {
            told.send(step).unwrap();
            for place in &places {
                let is_said =
                    || std::fs::read_to_string(place).is_ok_and(|text| text.contains(says));
                eventually(is_said);
            }
        }
        told.send(0).unwrap();
        for place in &places {
            eventually(|| !place.exists());
        }
        drop(told);
        minding.join().unwrap();
    }

    #[test]
    fn what_a_worker_that_was_killed_said_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let run = open(folder.path()).unwrap();
        tell(&run, 95);
        assert!(folder.path().join("motd.d/cowroot-full").exists());
        let (_, steps) = std::sync::mpsc::channel();
        Board { run, steps }.mind();
        assert!(!folder.path().join("motd.d/cowroot-full").exists());
    }

    #[test]
    fn a_login_says_that_a_medium_is_gone_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let run = open(folder.path()).unwrap();
        tell(&run, 80);
        tell_lost(Some(&run), Some("'/dev/x' waits"));
        for place in LOST {
            let said = std::fs::read_to_string(folder.path().join(place)).unwrap();
            assert_eq!(said, "cowroot: '/dev/x' waits\n");
        }
        tell_lost(Some(&run), None);
        for (lost, full) in LOST.iter().zip(FULL) {
            assert!(!folder.path().join(lost).exists());
            assert!(folder.path().join(full).exists(), "that goes on");
        }
        tell_lost(None, Some("nobody logs in"));
    }

    fn eventually(is_so: impl Fn() -> bool) {
        for _ in 0..1000 {
            if is_so() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("not within 10 s");
    }
}
