//! A device whose server has ended: another one goes on, and is given again what was under way.

use std::time::{Duration, Instant};

use anyhow::bail;
use libublk::ctrl::{UblkCtrl, UblkCtrlBuilder};
use libublk::io::UblkDev;
use libublk::sys;
use libublk::{UblkError, UblkFlags};
use nix::errno::Errno;

use super::forget::fetch_and_end;
use super::settle::settle;
use super::{BUFFER_BYTES, DEPTH, Device, NEEDED, Spec, explain, quietly, serve_with};

/// Before Linux 6.15 a server's end may be noticed only after the driver's timeout, which by default is 30 s; then
/// it has requests to put back.
const NOTICED: Duration = Duration::from_secs(60);
/// How often one looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Go on serving device `id`, which a process of the same settings served that has ended. `serve` runs in the
/// queue's thread until the device stops.
///
/// # Errors
/// The kernel does not notice that end in time, or has no such device, or refuses. Another try may succeed.
pub fn recover<F>(id: u32, spec: &Spec, serve: F) -> anyhow::Result<Device>
where
    F: FnOnce(&UblkDev) -> anyhow::Result<()> + Send + 'static,
{
    let context = || format!("recovering /dev/ublkb{id}");
    let number = i32::try_from(id)?;
    let build = || {
        UblkCtrlBuilder::default()
            .name("cowroot")
            .id(number)
            .nr_queues(1)
            .depth(DEPTH)
            .io_buf_bytes(BUFFER_BYTES)
            .ctrl_flags(NEEDED)
            .dev_flags(UblkFlags::UBLK_DEV_F_RECOVER_DEV | UblkFlags::UBLK_DEV_F_DEL_DEV_ASYNC)
            .build()
    };
    let ctrl = quietly(build).map_err(|error| explain(&error).context(context()))?;
    begin(id, &ctrl).map_err(|error| error.context(context()))?;
    serve_with(ctrl, spec, serve)
}

/// Whether somebody has told the driver so before, and died before it fetched. Before Linux 6.16 the driver then says
/// EINVAL for ever.
fn has_begun(error: &UblkError) -> bool {
    matches!(error, UblkError::UringIOError(code) if *code == -libc::EINVAL)
}

/// Tell the driver that somebody goes on, as soon as it has noticed that the server before has ended.
fn begin(id: u32, ctrl: &UblkCtrl) -> anyhow::Result<()> {
    let deadline = Instant::now() + NOTICED;
    let mut stands;
    loop {
        ctrl.read_dev_info().map_err(|error| explain(&error))?;
        let state = u32::from(ctrl.dev_info().state);
        if state == sys::UBLK_S_DEV_DEAD {
            bail!("it was stopped");
        }
        stands = format!("device state {state}");
        // libublk takes EBUSY for success, and tries that for 30 s itself: so only when it should succeed.
        if state == sys::UBLK_S_DEV_QUIESCED {
            settle();
            match ctrl.start_user_recover() {
                Ok(0..) => {
                    // Again, for whoever died before it served left work behind after the device was quiesced.
                    settle();
                    return Ok(());
                }
                Ok(code) => stands = format!("it says {}", Errno::from_raw(-code)),
                Err(error) if has_begun(&error) => {
                    if let Err(error) = fetch_and_end(id) {
                        stands = format!("{error:#}");
                    }
                }
                Err(error) => return Err(explain(&error)),
            }
        }
        if Instant::now() >= deadline {
            bail!(
                "the kernel has not noticed within {} s that its server has ended ({stands})",
                NOTICED.as_secs()
            );
        }
        std::thread::sleep(PAUSE);
    }
}
