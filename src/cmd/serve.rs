//! `cowroot serve`: the daemon itself, started by `daemon::launch`.

use crate::cli::Serve;
use crate::daemon;
use crate::daemon::serve::Starter;

/// Serve until detached. Whether all went well; if not, the starter has been told.
///
/// # Errors
/// What ended the device.
pub fn run(serve: &Serve) -> anyhow::Result<bool> {
    let starter = match serve.ready_fd {
        Some(fd) => Starter::Pipe(daemon::starter(fd)?),
        None => Starter::Terminal,
    };
    // A session of its own: no terminal's hang-up or job control reaches it.
    if let Err(error) = nix::unistd::setsid() {
        log::debug!("starting a session: {error}");
    }
    daemon::serve::serve(&super::attach::options(&serve.attach)?, starter)
}
