//! Sessions of a device that is served: another one begun while requests go on.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;

use anyhow::Context;

use super::protocol::{self, Answer};
use crate::media::session;
use crate::ublk::asks::Asks;

/// Begin a session, named or not, and answer when it is durable: a slow stick takes its time, so others can ask meanwhile.
///
/// # Errors
/// The customer's socket.
pub(super) fn begin(asks: &Asks, stream: &UnixStream, name: Option<String>) -> anyhow::Result<()> {
    let mut stream = stream.try_clone().context("answering a question")?;
    let asks = asks.clone();
    std::thread::spawn(move || {
        let answer = begun(&asks, name).map_or_else(Answer::Refused, Answer::Said);
        if let Err(error) = protocol::reply(&mut stream, &answer) {
            log::debug!("{error:#}");
        }
    });
    Ok(())
}

/// Tell what sessions there are.
///
/// # Errors
/// The customer's socket.
pub(super) fn tell(asks: &Asks, stream: &UnixStream) -> anyhow::Result<()> {
    let mut stream = stream.try_clone().context("answering a question")?;
    let asks = asks.clone();
    std::thread::spawn(move || {
        let answer = match asks.look() {
            Some(superblock) => {
                let mut bytes = vec![0; superblock.len()];
                superblock.encode(&mut bytes);
                Answer::Superblock(superblock.slot(), bytes)
            }
            None => Answer::Refused("what is written to it is in RAM; it has no sessions".into()),
        };
        if let Err(error) = protocol::reply(&mut stream, &answer) {
            log::debug!("{error:#}");
        }
    });
    Ok(())
}

fn begun(asks: &Asks, wished: Option<String>) -> Result<String, String> {
    let (tell, name) = channel();
    let outcome = asks.ask(Box::new(move |superblock| {
        let (edit, description, name) = session::begin_in_use(superblock, wished.as_deref())?;
        // Whoever hears it is this function.
        let _ = tell.send(name);
        Ok((edit, description))
    }));
    let gone = |_| "the device is being detached, or its daemon ends".to_owned();
    outcome.recv().map_err(gone)??;
    let name = name.recv().map_err(gone)?;
    asks.set_session(name.clone());
    log::info!("session '{name}' begins, and takes the writes");
    Ok(format!(
        "session '{name}' begins on what was written so far, and takes the writes"
    ))
}
