//! What somebody asks of an engine while its queue serves: other layers.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::eventfd::EventFd;

use crate::engine::command::{Buffers, Outbox};
use crate::engine::cowfile::layers::Edit;
use crate::engine::driven::Engine;
use crate::engine::format::superblock::Superblock;

/// How it went.
pub type Outcome = Result<(), String>;
/// What is to be done with the layers as they are, and what is known of them then.
pub type Plan = Box<dyn FnOnce(&Superblock) -> Result<(Edit, Vec<u8>), String> + Send>;

struct Ask {
    plan: Plan,
    answer: Sender<Outcome>,
}

/// The way to the queue's thread.
#[derive(Clone)]
pub struct Asks {
    waiting: Arc<Mutex<VecDeque<Ask>>>,
    wake: Arc<EventFd>,
    session: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asks").finish_non_exhaustive()
    }
}

impl Asks {
    /// Whoever is woken by this takes them. `session` takes the writes now.
    #[must_use]
    pub fn new(wake: Arc<EventFd>, session: Option<String>) -> Self {
        Self {
            waiting: Arc::default(),
            wake,
            session: Arc::new(Mutex::new(session)),
        }
    }

    /// The session that takes the writes, by its name; none where there are no sessions.
    #[must_use]
    pub fn session(&self) -> Option<String> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.clone()
    }

    /// Another one does.
    pub fn set_session(&self, name: String) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        *session = Some(name);
    }

    /// Ask. The outcome comes when the layers are changed, durably, or are not to be.
    #[must_use]
    pub fn ask(&self, plan: Plan) -> Receiver<Outcome> {
        let (answer, outcome) = channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(Ask { plan, answer });
        drop(waiting);
        // If that fails the thread looks when it has something else to do.
        let _ = self.wake.write(1);
        outcome
    }

    /// What the layers are now, and what is known of them; none where there are none.
    #[must_use]
    pub fn look(&self) -> Option<Superblock> {
        let (tell, seen) = channel();
        let outcome = self.ask(Box::new(move |superblock| {
            let _ = tell.send(superblock.clone());
            Err("nothing is to be changed".into())
        }));
        // It says so, or the thread has ended.
        let _ = outcome.recv();
        seen.try_recv().ok()
    }

    fn next(&self) -> Option<Ask> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    }
}

/// What the queue's thread does about them: one after the other.
pub(super) struct Hearing {
    asks: Asks,
    under_way: Option<Sender<Outcome>>,
}

impl Hearing {
    pub(super) fn new(asks: Asks) -> Self {
        Self {
            asks,
            under_way: None,
        }
    }

    /// Nothing more is begun; what was begun is over.
    pub(super) fn close(&mut self, engine: &impl Engine) {
        self.tell(engine);
        while let Some(Ask { answer, .. }) = self.asks.next() {
            let _ = answer.send(Err("the device is being detached".into()));
        }
    }

    fn tell(&mut self, engine: &impl Engine) {
        if let Some(answer) = self.under_way.take() {
            let broken = engine.gauges().broken;
            // Whoever asked may have gone.
            let _ = answer.send(match broken {
                None => Ok(()),
                Some(_) => Err("the cowfile's medium takes no writes".into()),
            });
        }
    }

    /// Tell of the one that is over, and begin the next.
    pub(super) fn go_on(
        &mut self,
        engine: &mut impl Engine,
        buffers: &mut impl Buffers,
        out: &mut Outbox,
    ) {
        while !engine.changes_layers() {
            self.tell(engine);
            let Some(Ask { plan, answer }) = self.asks.next() else {
                return;
            };
            match engine.change_layers(plan, buffers, out) {
                Ok(()) => self.under_way = Some(answer),
                Err(why) => drop(answer.send(Err(why))),
            }
        }
    }
}
