//! The block device: requests in, completions out. The only user of libublk, and its fence.
//!
//! What libublk 0.4.8 does that this room guards against (each was measured):
//! - A start that fails would hang the process in a synchronous delete: `DEL_DEV_ASYNC` always, the
//!   starter deletes what is left (`devices`), and a watchdog bounds the start (`daemon`).
//! - ADD_DEV masks flags it does not know without a word, and queues then fail: granted flags are
//!   compared with those asked for.
//! - `run_target` joins threads, deletes the device when one ends and writes a JSON file to /run:
//!   not used. `start_dev` alone writes nothing.
//! - Its loop ends on any error of io_uring_enter, EINTR included: the loop is ours (`queue`).
//! - ADD_DEV of a number that is in use fails, and dropping the failed control then deletes *that*
//!   device, mounted or not: only one cowroot at a time adds, and only a number that is free. (Another
//!   ublk tool that takes the very number in between could still lose its device.)
//! - STOP_DEV takes a mounted device away: `Device::claim` comes first.

pub mod asks;
mod clock;
pub mod counters;
pub mod devices;
mod forget;
mod fua;
mod fullness;
mod kernel;
mod memory;
pub mod queue;
mod recover;
mod ring;
pub mod served;
mod settle;
mod spin;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use devices::{delete_dead, device_ids};
use libublk::ctrl::{UblkCtrl, UblkCtrlBuilder};
use libublk::io::UblkDev;
use libublk::{UblkError, UblkFlags, sys};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::engine::units::CHUNK_BYTES;

pub use kernel::{check_kernel, is_io_uring_disabled};
pub use recover::recover;

/// Tags of a device.
pub const DEPTH: u16 = 64;
/// Requests under way at a time. One tag stays with the kernel, so that it hears at once when the server ends: before
/// Linux 6.15 it looks only at tags that nobody works on, or else waits for its timeout.
pub const USED_DEPTH: u16 = DEPTH - 1;
/// That timeout, in milliseconds, should somebody have all tags used. It harms no request: while its server lives the
/// driver goes on waiting (ublk_timeout of ublk_drv.c).
const LOOK_AFTER_MS: u32 = 2000;
/// Bytes of the largest request. Each tag has a buffer of this size, touched only when needed.
pub const BUFFER_BYTES: u32 = 128 << 10;

/// Adding a device takes milliseconds; somebody stuck must not hold up others for ever.
const TURN_TRIES: u32 = 100;
const TURN_PAUSE: Duration = Duration::from_millis(50);

/// The driver's node; there as soon as the driver is.
pub const CONTROL: &str = "/dev/ublk-control";
/// What a driver must offer: its commands as ioctls, and that a device waits for another server when its own ends,
/// which is given again what was under way.
const NEEDED: u64 = (sys::UBLK_F_CMD_IOCTL_ENCODE
    | sys::UBLK_F_USER_RECOVERY
    | sys::UBLK_F_USER_RECOVERY_REISSUE) as u64;

/// What kind of device to make.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The N of /dev/ublkbN, or the first free one.
    pub id: Option<u32>,
    /// A multiple of 512.
    pub size_bytes: u64,
    /// Refuse writes.
    pub read_only: bool,
}

/// A device that is being served by a thread of this process.
#[derive(Debug)]
pub struct Device {
    ctrl: Control,
    queue: JoinHandle<anyhow::Result<()>>,
    id: u32,
}

/// A device's queue, to be served by its thread.
pub type Queue = UblkDev;

/// libublk's control side; its thread-local ring makes it belong to the thread that created it.
struct Control(UblkCtrl);

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control(ublkc{})", self.0.dev_info().dev_id)
    }
}

/// Make the device and start serving it: `serve` runs in the queue's thread until the device stops.
///
/// # Errors
/// What the kernel refused. The device may be left half made: `delete_leftovers` from another
/// process removes it once this one has ended.
pub fn start<F>(spec: &Spec, serve: F) -> anyhow::Result<Device>
where
    F: FnOnce(&UblkDev) -> anyhow::Result<()> + Send + 'static,
{
    serve_with(add_device(spec)?, spec, serve)
}

/// Serve a device that was added, or that waits for somebody to recover it.
fn serve_with<F>(ctrl: UblkCtrl, spec: &Spec, serve: F) -> anyhow::Result<Device>
where
    F: FnOnce(&UblkDev) -> anyhow::Result<()> + Send + 'static,
{
    let id = ctrl.dev_info().dev_id;
    let size_bytes = spec.size_bytes;
    let read_only = spec.read_only;
    let initialize = |dev: &mut UblkDev| {
        dev.set_default_params(size_bytes);
        let basic = &mut dev.tgt.params.basic;
        // A volatile cache cannot be announced later; `write_through` switches its flushes off now. And FUA with it,
        // or the kernel would make a flush of its own of it, for which a write waits in a way that the driver gets
        // wrong when its server dies (`fua`).
        basic.attrs = sys::UBLK_ATTR_VOLATILE_CACHE
            | sys::UBLK_ATTR_FUA
            | if read_only {
                sys::UBLK_ATTR_READ_ONLY
            } else {
                0
            };
        dev.tgt.params.types |= sys::UBLK_PARAM_TYPE_DISCARD;
        // In sectors: the block layer cuts at 4 GiB, for it counts a request's bytes in 32 bits.
        let longest = u32::MAX / 512 / 8 * 8;
        dev.tgt.params.discard = sys::ublk_param_discard {
            discard_granularity: u32::try_from(CHUNK_BYTES).unwrap_or_default(),
            max_discard_sectors: longest,
            max_write_zeroes_sectors: longest,
            max_discard_segments: 1,
            ..Default::default()
        };
        // One completion for each tag, and one for the workers' wake.
        dev.tgt.sq_depth = DEPTH * 2;
        dev.tgt.cq_depth = DEPTH * 2;
        Ok(())
    };
    let dev = UblkDev::new("cowroot".to_owned(), initialize, &ctrl)
        .map_err(|error| explain(&error).context(format!("opening /dev/ublkc{id}")))?;
    let dev = Arc::new(dev);
    let served = Arc::clone(&dev);
    let queue = std::thread::Builder::new()
        .name("cowroot-queue".into())
        .spawn(move || serve(&served))
        .context("starting the queue's thread")?;
    ctrl.start_dev(&dev)
        .map_err(|error| explain(&error).context(format!("starting /dev/ublkb{id}")))?;
    // Whatever becomes of this process, the device is deleted only where `stop` says so.
    ctrl.disown();
    Ok(Device {
        ctrl: Control(ctrl),
        queue,
        id,
    })
}

fn add_device(spec: &Spec) -> anyhow::Result<UblkCtrl> {
    let _turn = take_turn()?;
    if let Some(id) = spec
        .id
        .filter(|&id| device_ids().contains(&id) && !delete_dead(id))
    {
        bail!("making /dev/ublkb{id}: that number is in use; leave --id out for a free one");
    }
    let id = spec
        .id
        .map_or(Ok(-1), i32::try_from)
        .context("choosing a device number")?;
    let ctrl = UblkCtrlBuilder::default()
        .name("cowroot")
        .id(id)
        .nr_queues(1)
        .depth(DEPTH)
        .io_buf_bytes(BUFFER_BYTES)
        .ctrl_flags(NEEDED)
        .dev_flags(UblkFlags::UBLK_DEV_F_ADD_DEV | UblkFlags::UBLK_DEV_F_DEL_DEV_ASYNC)
        .build()
        .map_err(|error| match error {
            UblkError::UringIOError(code) if code == -libc::ENOSPC || code == -libc::EACCES => explain(&error)
                .context("making a ublk device: are there too many? ublk_drv's parameter ublks_max sets how many"),
            _ => explain(&error).context("making a ublk device"),
        })?;
    let granted = ctrl.dev_info();
    if granted.flags & NEEDED != NEEDED
        || granted.queue_depth != DEPTH
        || granted.max_io_buf_bytes != BUFFER_BYTES
    {
        bail!(
            "making a ublk device: asked for flags {NEEDED:#x}, depth {DEPTH}, {BUFFER_BYTES} bytes, the kernel granted \
             {:#x}, {}, {}",
            granted.flags,
            granted.queue_depth,
            granted.max_io_buf_bytes
        );
    }
    Ok(ctrl)
}

/// Wait until no other cowroot is adding a device. The turn ends when the lock is dropped, or with
/// the process. The driver's node is locked because only root can open it: nobody else can hold us up.
fn take_turn() -> anyhow::Result<Flock<File>> {
    let context = || format!("locking '{CONTROL}'");
    let mut control = OpenOptions::new()
        .read(true)
        .write(true)
        .open(CONTROL)
        .with_context(context)?;
    for _ in 0..TURN_TRIES {
        control = match Flock::lock(control, FlockArg::LockExclusiveNonblock) {
            Ok(turn) => return Ok(turn),
            Err((control, Errno::EWOULDBLOCK)) => control,
            Err((_, error)) => return Err(error).with_context(context),
        };
        std::thread::sleep(TURN_PAUSE);
    }
    bail!("waiting for another cowroot to add its device: it takes too long; is it stuck?")
}

impl Device {
    /// The N of /dev/ublkbN.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The block device's node.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        PathBuf::from(format!("/dev/ublkb{}", self.id))
    }

    /// Set the queue up: nothing to schedule, a tag that is never used; and for a store in RAM, nothing a flush would have to do.
    ///
    /// # Errors
    /// If sysfs does not take it; the device works all the same, slower.
    pub fn tune(&self, in_ram: bool) -> anyhow::Result<()> {
        let through = in_ram.then(|| ("write_cache", "write through".to_owned()));
        // The scheduler first: it brings a number of requests of its own.
        let settings = [
            ("scheduler", "none".to_owned()),
            ("nr_requests", USED_DEPTH.to_string()),
            ("io_timeout", LOOK_AFTER_MS.to_string()),
        ];
        for (file, value) in settings.into_iter().chain(through) {
            let path = format!("/sys/block/ublkb{}/queue/{file}", self.id);
            std::fs::write(&path, &value)
                .with_context(|| format!("writing '{value}' to '{path}'"))?;
        }
        Ok(())
    }

    /// Claim the device, so that nobody can mount it any more.
    ///
    /// # Errors
    /// If it is mounted, or part of something that is.
    pub fn claim(&self) -> anyhow::Result<File> {
        let node = self.node();
        let claimed = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_EXCL)
            .open(&node);
        claimed.map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => anyhow::anyhow!(
                "detaching '{}': it is in use (mounted, swap, or part of another device); unmount it first, \
                 `findmnt {}` and `lsblk` say where",
                node.display(),
                node.display()
            ),
            _ => anyhow::Error::new(error).context(format!("claiming '{}'", node.display())),
        })
    }

    /// What the queue's thread ended with, which has said that it has. The device stays as it is: gone, or waiting for
    /// another server.
    ///
    /// # Errors
    /// Why it ended, if nobody had stopped the device.
    pub fn served(self) -> anyhow::Result<()> {
        joined(self.queue)
    }

    /// Take the device away. Whoever has it open gets errors from now on.
    ///
    /// # Errors
    /// What the queue's thread ended with, or the kernel refused.
    pub fn stop(self) -> anyhow::Result<()> {
        let Self {
            ctrl: Control(ctrl),
            queue,
            id,
        } = self;
        ctrl.kill_dev()
            .map_err(|error| explain(&error).context(format!("stopping /dev/ublkb{id}")))?;
        let served = joined(queue);
        ctrl.del_dev_async()
            .map_err(|error| explain(&error).context(format!("deleting /dev/ublkc{id}")))?;
        served
    }
}

fn joined(queue: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    let served = queue.join();
    served.unwrap_or_else(|_| Err(anyhow::anyhow!("the queue's thread panicked")))
}

/// libublk grumbles on standard error that it knows no more of a device than the kernel does; nobody needs to hear that.
fn quietly<T>(act: impl FnOnce() -> Result<T, UblkError>) -> Result<T, UblkError> {
    let stderr = nix::unistd::dup(std::io::stderr());
    let null = File::options().write(true).open("/dev/null");
    if let (Ok(stderr), Ok(null)) = (&stderr, &null)
        && nix::unistd::dup2_stderr(null).is_ok()
    {
        let result = act();
        let _ = nix::unistd::dup2_stderr(stderr);
        return result;
    }
    act()
}

/// libublk's errors with the cause that their text leaves out.
fn explain(error: &UblkError) -> anyhow::Error {
    match error {
        UblkError::UringIOError(code) | UblkError::OtherError(code) => {
            anyhow::Error::new(std::io::Error::from_raw_os_error(code.saturating_abs()))
        }
        UblkError::IOError(cause) => match cause.raw_os_error() {
            Some(code) => anyhow::Error::new(std::io::Error::from_raw_os_error(code)),
            None => anyhow::anyhow!("{cause}"),
        },
        other => anyhow::anyhow!("{other}"),
    }
}
