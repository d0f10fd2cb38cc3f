//! A process that looks for media that were pulled out, until they are back: then it mounts and opens what is on them
//! and hands that to the supervisor. Meanwhile it says to whoever asks how the device is.
//!
//! It has rights that who serves has given away, and is gone before anybody serves. What it mounts has no place: it
//! is there as long as something in it is open.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::handover::{self, KeptPlace, Word};
use super::kept::Kept;
use super::protect;
use super::protocol::{self, Answer, Question};
use super::reopening::{self, Handed};
use super::report::{Shared, report};
use crate::disk::lost::is_gone;
use crate::media::drive::Emptied;
use crate::media::place::{Looked, Place};

/// How often one looks; and after something was found and not taken.
const LOOK: Duration = Duration::from_millis(200);
const AGAIN: Duration = Duration::from_secs(1);
/// So long after a loss nothing of this program's has the medium in use.
const LET_GO: Duration = Duration::from_secs(2);

/// What a report says of a device that waits for its medium.
const WAITING: &str = "waiting";

/// Who looks.
pub(super) struct Seeker<'a> {
    kept: &'a Kept,
    shared: &'static Shared,
    deadline: Instant,
    began: Instant,
    /// Drives that stay, in which somebody may still use what was taken out.
    held: Vec<Emptied>,
    looked: Looked,
    /// Why the last that was found was not taken, and when it is tried again.
    refused: Option<(String, Instant)>,
}

impl<'a> Seeker<'a> {
    /// What lies on the devices `gone` is away.
    pub(super) fn new(
        kept: &'a Kept,
        shared: &'static Shared,
        gone: &[u64],
        deadline: Instant,
    ) -> Self {
        Self {
            kept,
            shared,
            deadline,
            began: Instant::now(),
            held: gone.iter().copied().filter_map(Emptied::of).collect(),
            looked: Looked::new(),
            refused: None,
        }
    }

    /// Look until they are there, or it is too late; tell, and end.
    pub(super) fn run(mut self, supervisor: &OwnedFd) -> ! {
        protect::protect(c"cowroot-seek");
        let (word, fds) = match self.seek() {
            Some((found, fds)) => (Word::Found(Box::new(found)), fds),
            None => (Word::Failed(self.reason()), Vec::new()),
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        if let Err(error) = handover::tell(supervisor.as_fd(), &word, &fds) {
            log::error!("{error:#}");
        }
        std::process::exit(0)
    }

    fn seek(&mut self) -> Option<Handed> {
        loop {
            if let Some(found) = self.look() {
                return Some(found);
            }
            if Instant::now() >= self.deadline {
                return None;
            }
            self.answer();
        }
    }

    fn reason(&self) -> String {
        let media = &self.kept.handover.media;
        let refused = self
            .refused
            .as_ref()
            .map(|(reason, _)| format!(": {reason}"));
        format!(
            "{} was pulled out and not put back within {} s{}",
            self.named(),
            media.wait_s,
            refused.unwrap_or_default()
        )
    }

    /// What is away.
    fn away(&self) -> (Option<Place>, Option<Place>) {
        let Kept {
            handover,
            base,
            store,
            ..
        } = self.kept;
        let is_away = |place: &&KeptPlace, is_held: bool| {
            let place = Place::from(*place);
            !is_held || is_gone(place.device)
        };
        let media = &handover.media;
        let has_files = store.len() > 1;
        let base = media
            .base
            .as_ref()
            .filter(|place| is_away(place, base.is_some()));
        let cow = media.cow.as_ref().filter(|place| is_away(place, has_files));
        (base.map(Place::from), cow.map(Place::from))
    }

    /// What is away, for people.
    fn named(&self) -> String {
        let (base, cow) = self.away();
        let devices = base.into_iter().chain(cow).map(|place| place.device);
        self.kept.handover.media.named(&devices.collect::<Vec<_>>())
    }

    /// All that is away, if all of it is there again.
    fn look(&mut self) -> Option<Handed> {
        // At each look: whoever mounts what is in the drive by now is in nobody's way.
        self.held.retain(Emptied::is_held);
        if let Some((_, at)) = &mut self.refused
            && Instant::now() >= *at
        {
            *at = Instant::now() + AGAIN;
            self.looked.clear();
        }
        let (base, cow) = self.away();
        let is_shared =
            matches!((&base, &cow), (Some(base), Some(cow)) if base.device == cow.device);
        let mut find = |place: Option<Place>| match place {
            Some(place) => place.find(&mut self.looked).map(Some),
            None => Some(None),
        };
        let (base, cow) = (find(base)?, find(cow)?);
        let found = base.iter().chain(&cow).map(|place| place.device);
        if self.is_in_the_way(&found.collect::<Vec<_>>()) {
            return None;
        }
        match reopening::open(self.kept, base.as_ref(), cow.as_ref(), is_shared) {
            Ok(found) => Some(found),
            Err(error) => {
                let found = base.into_iter().chain(cow);
                self.refuse(&error, &found.collect::<Vec<_>>());
                None
            }
        }
    }

    /// Whether somebody still has in use what was in the drive of one of these devices: what is opened there now would be
    /// what the kernel kept of it.
    fn is_in_the_way(&mut self, found: &[u64]) -> bool {
        let held = self.held.iter().find(|held| found.contains(&held.device()));
        let Some(node) = held.map(Emptied::node) else {
            return false;
        };
        if self.began.elapsed() >= LET_GO {
            self.note(format!(
                "what was taken out of '{}' is still mounted or open: close and unmount it",
                node.display()
            ));
        }
        true
    }

    /// What looks like it is not it, or not ready yet.
    fn refuse(&mut self, error: &anyhow::Error, found: &[Place]) {
        let mut nodes: Vec<_> = found.iter().map(Place::node).collect();
        nodes.dedup();
        let nodes: Vec<_> = nodes
            .iter()
            .map(|node| format!("'{}'", node.display()))
            .collect();
        self.note(format!(
            "{} is not taken for it: {error:#}",
            nodes.join(", ")
        ));
        for ((name, _), is_it) in &mut self.looked {
            *is_it &= !found.iter().any(|place| place.name == *name);
        }
    }

    /// Why it is not taken, which is said once.
    fn note(&mut self, reason: String) {
        if self
            .refused
            .as_ref()
            .is_none_or(|(before, _)| *before != reason)
        {
            log::warn!("{reason}");
        }
        self.refused = Some((reason, Instant::now() + AGAIN));
    }

    /// Say how the device is to whoever asks, until it is time to look again.
    fn answer(&self) {
        let until = Instant::now() + LOOK;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut asked = [PollFd::new(self.kept.listener.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut asked, timeout) {
                Ok(1..) => {}
                Ok(_) => return,
                Err(_) => return std::thread::sleep(left),
            }
            let Ok((mut stream, _)) = self.kept.listener.accept() else {
                continue;
            };
            let answer = match protocol::hear(&mut stream) {
                Ok(Question::Status) => Answer::Status(Box::new(self.report())),
                Ok(
                    Question::Detach
                    | Question::Upgrade
                    | Question::NewSession(_)
                    | Question::RenameSession(..)
                    | Question::Sessions
                    | Question::AskMerge(..),
                ) => Answer::Refused(self.waits()),
                Err(error) => {
                    log::debug!("{error:#}");
                    continue;
                }
            };
            let _ = protocol::reply(&mut stream, &answer);
        }
    }

    fn report(&self) -> protocol::Report {
        let mut report = report(&self.kept.handover.report, self.shared);
        report.health = WAITING.into();
        report.warnings.insert(0, self.waits());
        report
    }

    fn waits(&self) -> String {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let mut text = format!(
            "'{}' waits for {}, which was pulled out: put it back within {} s, or reads and writes fail",
            self.kept.handover.report.device,
            self.named(),
            left.as_secs()
        );
        if let Some((reason, _)) = &self.refused {
            text.push_str(&format!(" ({reason})"));
        }
        text
    }
}
