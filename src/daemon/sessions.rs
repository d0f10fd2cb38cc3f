//! Sessions of a device that is served: told of, begun, and meant to be merged, while requests go on.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;

use anyhow::Context;

use super::protocol::{self, Answer};
use crate::engine::format::superblock::Superblock;
use crate::media::{merge, session};
use crate::ublk::asks::Asks;

/// Begin a session, named or not, and answer when it is durable.
///
/// # Errors
/// The customer's socket.
pub(super) fn begin(asks: &Asks, stream: &UnixStream, name: Option<String>) -> anyhow::Result<()> {
    answer(asks, stream, |asks| {
        begun(asks, name).map_or_else(Answer::Refused, Answer::Said)
    })
}

/// Call a session something else, and answer when that is durable.
///
/// # Errors
/// The customer's socket.
pub(super) fn rename(
    asks: &Asks,
    stream: &UnixStream,
    from: String,
    to: String,
) -> anyhow::Result<()> {
    answer(asks, stream, |asks| {
        renamed(asks, from, to).map_or_else(Answer::Refused, Answer::Said)
    })
}

/// Have the next boot merge, or not, and answer when that is durable.
///
/// # Errors
/// The customer's socket.
pub(super) fn ask_merge(
    asks: &Asks,
    stream: &UnixStream,
    up_to: Option<String>,
    frees: Option<bool>,
) -> anyhow::Result<()> {
    answer(asks, stream, move |asks| {
        merge_asked(asks, up_to, frees).map_or_else(Answer::Refused, Answer::Said)
    })
}

/// Tell what sessions there are.
///
/// # Errors
/// The customer's socket.
pub(super) fn tell(asks: &Asks, stream: &UnixStream) -> anyhow::Result<()> {
    answer(asks, stream, |asks| match asks.look() {
        Some(superblock) => {
            let mut bytes = vec![0; superblock.len()];
            superblock.encode(&mut bytes);
            Answer::Superblock(superblock.slot(), bytes)
        }
        None => Answer::Refused("what is written to it is in RAM; it has no sessions".into()),
    })
}

/// Answer when the queue's thread has: a slow stick takes its time, so others can ask meanwhile.
fn answer(
    asks: &Asks,
    stream: &UnixStream,
    ask: impl FnOnce(&Asks) -> Answer + Send + 'static,
) -> anyhow::Result<()> {
    let mut stream = stream.try_clone().context("answering a question")?;
    let asks = asks.clone();
    std::thread::spawn(move || {
        if let Err(error) = protocol::reply(&mut stream, &ask(&asks)) {
            log::debug!("{error:#}");
        }
    });
    Ok(())
}

const GONE: &str = "the device is being detached, or its daemon ends";

/// Change the layers as planned; what came with the plan, once they are changed.
fn changed<T: Send + 'static>(
    asks: &Asks,
    plan: impl FnOnce(&Superblock) -> Result<session::Planned<T>, String> + Send + 'static,
) -> Result<T, String> {
    let (tell, told) = channel();
    let outcome = asks.ask(Box::new(move |superblock| {
        let (edit, description, about) = plan(superblock)?;
        // Whoever hears it is this function.
        let _ = tell.send(about);
        Ok((edit, description))
    }));
    outcome.recv().map_err(|_| GONE)??;
    told.recv().map_err(|_| GONE.to_owned())
}

fn merge_asked(asks: &Asks, up_to: Option<String>, frees: Option<bool>) -> Result<String, String> {
    let names: Vec<String> = changed(asks, move |superblock| {
        merge::ask_in_use(superblock, up_to.as_deref(), frees)
    })?;
    let said = match frees {
        None => "the next boot merges nothing".to_owned(),
        Some(_) => format!(
            "the next boot merges {} into the base, before it mounts the root; --cancel takes that back",
            names.join(", ")
        ),
    };
    log::info!("{said}");
    Ok(said)
}

fn renamed(asks: &Asks, from: String, to: String) -> Result<String, String> {
    let (said, active) = changed(asks, move |superblock| {
        session::rename_in_use(superblock, (&from, &to))
    })?;
    asks.set_session(active);
    log::info!("{said}");
    Ok(said)
}

fn begun(asks: &Asks, wished: Option<String>) -> Result<String, String> {
    let name = changed(asks, move |superblock| {
        session::begin_in_use(superblock, wished.as_deref())
    })?;
    asks.set_session(name.clone());
    log::info!("session '{name}' begins, and takes the writes");
    Ok(format!(
        "session '{name}' begins on what was written so far, and takes the writes"
    ))
}
