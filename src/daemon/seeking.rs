//! A process that looks for media that were pulled out, until they are back: then it mounts and opens what is on them
//! and hands that to the supervisor. Meanwhile it says to whoever asks how the device is.
//!
//! It has rights that who serves has given away, and is gone before anybody serves. What it mounts has no place: it
//! is there as long as something in it is open.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::handover::{self, Found, KeptPlace, StoreState, Word};
use super::kept::Kept;
use super::opening::{cow_files, left, mode};
use super::protect;
use super::protocol::{self, Answer, Question};
use super::report::{Shared, report};
use crate::disk::base::Base;
use crate::disk::cowfile::{CowFiles, Mode};
use crate::disk::lost::is_gone;
use crate::engine::format::description::{Description, Identity};
use crate::engine::format::superblock::{DESCRIPTION_VERSION, MergeState};
use crate::engine::identity::compare;
use crate::media::cowfile::identify;
use crate::media::mount::{self, Access};
use crate::media::namespace;
use crate::media::place::{Looked, Place};

/// How often one looks; and after something was found and not taken.
const LOOK: Duration = Duration::from_millis(200);
const AGAIN: Duration = Duration::from_secs(1);

/// What a report says of a device that waits for its medium.
const WAITING: &str = "waiting";

/// Who looks.
pub(super) struct Seeker<'a> {
    kept: &'a Kept,
    shared: &'static Shared,
    deadline: Instant,
    looked: Looked,
    /// Why the last that was found was not taken, and when it is tried again.
    refused: Option<(String, Instant)>,
}

/// What is found, with its descriptors in their order.
type Handed = (Found, Vec<OwnedFd>);

impl<'a> Seeker<'a> {
    pub(super) fn new(kept: &'a Kept, shared: &'static Shared, deadline: Instant) -> Self {
        Self {
            kept,
            shared,
            deadline,
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
        if let Some((_, at)) = &self.refused
            && Instant::now() >= *at
        {
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
        match self.open(base.as_ref(), cow.as_ref(), is_shared) {
            Ok(found) => Some(found),
            Err(error) => {
                let found = base.into_iter().chain(cow);
                self.refuse(&error, &found.collect::<Vec<_>>());
                None
            }
        }
    }

    /// What looks like it is not it, or not ready yet.
    fn refuse(&mut self, error: &anyhow::Error, found: &[Place]) {
        let mut nodes: Vec<_> = found.iter().map(Place::node).collect();
        nodes.dedup();
        let nodes: Vec<_> = nodes
            .iter()
            .map(|node| format!("'{}'", node.display()))
            .collect();
        let reason = format!("{} is not taken for it: {error:#}", nodes.join(", "));
        if self
            .refused
            .as_ref()
            .is_none_or(|(before, _)| *before != reason)
        {
            log::warn!("{reason}");
        }
        self.refused = Some((reason, Instant::now() + AGAIN));
        for ((name, _), is_it) in &mut self.looked {
            *is_it &= !found.iter().any(|place| place.name == *name);
        }
    }

    /// Mount and open them, and make sure that it is they.
    fn open(
        &self,
        base: Option<&Place>,
        cow: Option<&Place>,
        is_shared: bool,
    ) -> anyhow::Result<Handed> {
        let access = match mode(self.kept) {
            Mode::Write => Access::Write,
            Mode::Read => Access::Read,
        };
        let cow_root = cow.map(|cow| mounted(cow, access)).transpose()?.flatten();
        // Those of the supervisor stay locked whatever becomes of these.
        let mut held = None;
        let mut files = cow
            .map(|cow| self.open_cow(cow, cow_root.as_ref()))
            .transpose()?;
        let of_base = match (&self.kept.handover.store, &mut files) {
            (StoreState::Ram { .. }, _) => None,
            (StoreState::Medium { .. }, Some(files)) => Some(self.verify(files)?),
            (StoreState::Medium { .. }, none) => {
                debug_assert!(none.is_none(), "no cowfile was opened");
                let files = held.insert(ManuallyDrop::new(cow_files(self.kept)?));
                Some(self.verify(files)?)
            }
        };
        let base_root = match base {
            Some(_) if is_shared => cow_root,
            Some(base) => mounted(base, Access::Harmless)?,
            None => None,
        };
        let opened = base.map(|base| {
            self.open_base(
                base,
                base_root.as_ref(),
                of_base.as_ref().and_then(Option::as_ref),
            )
        });
        let opened = opened.transpose()?;
        let mut fds: Vec<OwnedFd> = Vec::new();
        if let Some(opened) = &opened {
            fds.push(
                opened
                    .file()
                    .try_clone()
                    .context("keeping the base")?
                    .into(),
            );
        }
        if let Some(files) = &files {
            let files = files.again().context("keeping the cowfile")?;
            fds.extend(files.into_iter().map(OwnedFd::from));
        }
        // Their locks are the descriptors', which go on.
        std::mem::forget((opened, files));
        let found = Found {
            base: base.map(KeptPlace::from),
            cow: cow.map(KeptPlace::from),
        };
        Ok((found, fds))
    }

    fn open_cow(&self, place: &Place, root: Option<&OwnedFd>) -> anyhow::Result<CowFiles> {
        let open = |path: &std::path::Path| CowFiles::open(path, mode(self.kept));
        match root {
            Some(root) => {
                namespace::inside(root.as_fd(), self.kept.root.as_fd(), || open(&place.path))?
            }
            None => open(&place.node()),
        }
        .context("opening the cowfile on it")
    }

    /// Whether it is the cowfile that was served, as it was; and which base it wants: one that is being merged into has
    /// other content than it says.
    fn verify(&self, files: &mut CowFiles) -> anyhow::Result<Option<(Identity, [u8; 16])>> {
        let StoreState::Medium { found: first, .. } = self.kept.handover.store else {
            bail!("the store is in RAM");
        };
        let found = super::persistent::verify(files, &left(self.kept)?, first)?;
        let superblock = &found.superblock;
        let description = Description::decode(DESCRIPTION_VERSION, &superblock.description);
        let description =
            description.map_err(|fault| anyhow::anyhow!("the cowfile on it: {fault}"))?;
        let is_merging = superblock.merge.state == MergeState::UnderWay;
        Ok((!is_merging).then_some((description.base, superblock.origin.store)))
    }

    fn open_base(
        &self,
        place: &Place,
        root: Option<&OwnedFd>,
        wanted: Option<&(Identity, [u8; 16])>,
    ) -> anyhow::Result<Base> {
        let base = match root {
            Some(root) => namespace::inside(root.as_fd(), self.kept.root.as_fd(), || {
                Base::open(&place.path)
            })??,
            None => {
                mount::set_read_only(&place.node())?;
                Base::open(&place.node())?
            }
        };
        let was_bytes = self.kept.handover.report.base_bytes;
        if base.size_bytes() != was_bytes {
            bail!(
                "the base on it has {} bytes, not {was_bytes}",
                base.size_bytes()
            );
        }
        if let Some((wanted, store)) = wanted
            && let Err(difference) = compare(wanted, &identify(&base, *store)?, None)
        {
            bail!("the base on it is another one: {difference}");
        }
        Ok(base)
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

/// The file system that a place is in, mounted at no place; none if it is the device itself.
fn mounted(place: &Place, access: Access) -> anyhow::Result<Option<OwnedFd>> {
    match &place.kind {
        Some(kind) if !place.is_device() => mount::detached(&place.node(), kind, access).map(Some),
        _ => Ok(None),
    }
}
