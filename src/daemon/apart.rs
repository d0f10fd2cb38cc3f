//! Work for a process of its own.

use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::sys::{self, Forked};

/// For how long one waits for a process that does one thing, and how often one looks.
const APART: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(5);

/// Do something in a process of its own, for what libublk does needs threads and rings; and the kernel may keep it.
pub(super) fn apart(act: impl FnOnce()) {
    match sys::fork() {
        Ok(Forked::Child) => {
            act();
            std::process::exit(0)
        }
        Ok(Forked::Parent(pid)) => {
            let ends = || {
                !matches!(
                    waitpid(pid, Some(WaitPidFlag::WNOHANG)),
                    Ok(WaitStatus::StillAlive)
                )
            };
            for _ in 0..APART.as_millis() / MOMENT.as_millis() {
                if ends() {
                    return;
                }
                std::thread::sleep(MOMENT);
            }
            log::error!("the kernel does not end what was begun; its log may say why");
        }
        Err(error) => log::error!("making a process: {error}"),
    }
}
