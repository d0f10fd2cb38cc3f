//! `cowroot boot`: the initramfs entry point.

use std::convert::Infallible;

use crate::{boot, cli};

/// Boot this machine.
///
/// # Errors
/// This process is not PID 1.
pub fn run(options: &cli::Boot) -> anyhow::Result<Infallible> {
    boot::run(options.cmdline.as_deref())
}
