//! `cowroot serve`: the daemon itself, started by `daemon::launch`.

use crate::cli::Serve;
use crate::daemon::starter::Starter;
use crate::daemon::{Options, supervisor};

/// Serve until detached. Whether all went well; if not, the starter has been told.
///
/// # Errors
/// What ended the device.
pub fn run(serve: &Serve) -> anyhow::Result<bool> {
    let starter = match serve.ready_fd {
        Some(fd) => Starter::inherited(fd)?,
        None => Starter::Terminal,
    };
    // A session of its own: no terminal's hang-up or job control reaches it.
    if let Err(error) = nix::unistd::setsid() {
        log::debug!("starting a session: {error}");
    }
    let options = Options {
        carrier: serve.carrier.clone(),
        notice: serve.notice.clone(),
        ..super::attach::options(&serve.attach)?
    };
    supervisor::serve(&options, starter)
}
