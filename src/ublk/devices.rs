//! The ublk devices of this machine, and what becomes of those whose server has ended.

use std::time::Duration;

use libublk::ctrl::UblkCtrl;
use libublk::sys;

use super::{BUFFER_BYTES, DEPTH, quietly};

/// The kernel stops a device within two seconds of its server's end, or something else is wrong.
const LEFTOVER_TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// Delete the devices that a process made and left behind when it ended. The kernel takes a moment to
/// notice its end, so this looks for a while where there is something to delete.
pub fn delete_leftovers(pid: u32) {
    for _ in 0..LEFTOVER_TRIES {
        let mine = |id: &u32| {
            control(*id).is_some_and(|ctrl| u32::try_from(ctrl.dev_info().ublksrv_pid) == Ok(pid))
        };
        let left: Vec<u32> = device_ids().into_iter().filter(mine).collect();
        for id in &left {
            give_up(*id);
        }
        if left.into_iter().all(delete_dead) {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Delete a device that nobody serves any more, for its process has ended. Whether it was one.
pub fn delete_dead(id: u32) -> bool {
    let Some(ctrl) = control(id) else {
        return false;
    };
    let info = ctrl.dev_info();
    let is_served = is_running(info.ublksrv_pid);
    // A quiesced device waits for somebody who recovers it.
    let is_dead = u32::from(info.state) == sys::UBLK_S_DEV_DEAD;
    is_dead && !is_served && ctrl.del_dev_async().is_ok() && is_gone(id)
}

/// Give up a device whose server has ended, and no other will come: whoever waits for it gets errors from now on.
/// Whether it was one.
pub fn give_up(id: u32) -> bool {
    for _ in 0..LEFTOVER_TRIES {
        let Some(ctrl) = control(id).filter(is_left) else {
            return false;
        };
        if u32::from(ctrl.dev_info().state) == sys::UBLK_S_DEV_QUIESCED {
            return ctrl.kill_dev().is_ok();
        }
        // The kernel is about to notice that end.
        std::thread::sleep(PAUSE);
    }
    false
}

/// Whether a device is ours, and there, and its server is not.
fn is_left(ctrl: &UblkCtrl) -> bool {
    let info = ctrl.dev_info();
    // Another program's may be waiting for its own.
    let is_ours = info.queue_depth == DEPTH && info.max_io_buf_bytes == BUFFER_BYTES;
    is_ours && u32::from(info.state) != sys::UBLK_S_DEV_DEAD && !is_running(info.ublksrv_pid)
}

/// Whether a process is there and has not ended: one that has may still be listed, until its parent asks for it.
fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold anything, parentheses too (proc_pid_stat(5)).
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| !matches!(state, "Z" | "X"))
}

/// Whether a device is there and was not stopped, so that another server may go on.
pub(super) fn goes_on(id: u32) -> bool {
    control(id).is_some_and(|ctrl| u32::from(ctrl.dev_info().state) != sys::UBLK_S_DEV_DEAD)
}

/// Delete the device that this process served, and that somebody else stopped.
pub fn delete_own(id: u32) {
    if let Some(ctrl) = control(id) {
        // Where it does not go, `detach` finds it dead.
        let _ = ctrl.del_dev_async();
    }
}

/// Whether a device that is being deleted goes away soon.
fn is_gone(id: u32) -> bool {
    (0..LEFTOVER_TRIES).any(|_| {
        let gone = !device_ids().contains(&id);
        if !gone {
            std::thread::sleep(PAUSE);
        }
        gone
    })
}

/// The control side of a device that another process made.
fn control(id: u32) -> Option<UblkCtrl> {
    let id = i32::try_from(id).ok()?;
    quietly(|| UblkCtrl::new_simple(id)).ok()
}

/// The numbers of all ublk devices of this machine, whoever serves them, in ascending order.
#[must_use]
pub fn device_ids() -> Vec<u32> {
    let entries = std::fs::read_dir("/sys/class/ublk-char")
        .into_iter()
        .flatten()
        .flatten();
    let mut ids: Vec<u32> = entries
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix("ublkc")?
                .parse()
                .ok()
        })
        .collect();
    ids.sort_unstable();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_nobody_has_asked_for_has_ended() {
        assert!(is_running(i32::try_from(std::process::id()).unwrap()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while is_running(pid) {
            std::thread::yield_now();
        }
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        child.wait().unwrap();
        assert!(!is_running(pid));
    }
}
