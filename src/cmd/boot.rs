//! `cowroot boot`: the initramfs entry point.

use crate::{boot, cli};

/// Boot this machine, or take one step of it.
///
/// # Errors
/// The step's, or this process is not PID 1.
pub fn run(options: &cli::Boot) -> anyhow::Result<()> {
    match options.stage {
        Some(stage) => boot::stage::run(stage, options),
        None => boot::run(options.cmdline.as_deref()).map(|never| match never {}),
    }
}
