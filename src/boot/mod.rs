//! The initramfs entry: from the kernel command line to a running root, and at the end back to the firmware.
//!
//! [`run`] is the story; each chapter is a file beside this one. An initramfs that has an init of its own tells
//! it by [`stage`]s.

pub mod cmdline;
mod console;
mod cow;
pub mod device;
mod early;
mod exit;
mod login;
pub mod merge;
pub mod modules;
pub mod network;
mod reach;
mod root;
pub mod stage;
pub mod switch;
mod take_back;

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};

use self::cmdline::{Plan, RootWords};
use self::modules::Modules;
use self::reach::Drivers;
use crate::daemon::protocol::{self, Answer, Question};
use crate::kmsg;
use crate::media::source::Source;

/// Where the root is mounted before it becomes `/`.
const SYSROOT: &str = "/sysroot";

/// What the first process of a machine is started as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The kernel started it as the initramfs's `/init`.
    Init,
    /// The init of the root, which is at its end, started it as `/shutdown`.
    Shutdown,
}

impl First {
    /// What this process is, if it is the first one.
    #[must_use]
    pub fn of_this() -> Option<Self> {
        if is_first_process() && take_back::verb().is_some() {
            return Some(Self::Shutdown);
        }
        let name = std::env::args_os().next().unwrap_or_default();
        let name = Path::new(&name).file_name()?.to_owned();
        match name.to_str() {
            Some("init") if is_first_process() => Some(Self::Init),
            Some("shutdown") if is_first_process() => Some(Self::Shutdown),
            _ => None,
        }
    }

    /// Boot this machine, or end it.
    ///
    /// # Errors
    /// None that returns: a boot that fails ends in a shell or a panic, and an end comes whatever fails.
    pub fn act(self) -> anyhow::Result<Infallible> {
        match self {
            Self::Init => run(None),
            Self::Shutdown => {
                let verb = take_back::verb().or_else(|| std::env::args_os().nth(1));
                exit::end_machine(verb.as_deref())
            }
        }
    }
}

fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Boot this machine: returns only if it is not PID 1 that asks.
///
/// The kernel's words are read from `cmdline`, or from /proc/cmdline.
///
/// # Errors
/// This process is not PID 1. Any other failure is logged and ends in a shell or a panic.
pub fn run(cmdline: Option<&Path>) -> anyhow::Result<Infallible> {
    if !is_first_process() {
        bail!(
            "booting: only PID 1 of an initramfs can do that, others can do a --stage; 'cowroot \
             explain' says what it would do"
        );
    }
    match boot(cmdline) {
        Ok(never) => Ok(never),
        Err(error) => early::give_up(&error),
    }
}

fn boot(cmdline: Option<&Path>) -> anyhow::Result<Infallible> {
    let started = Instant::now();
    let prepared = early::prepare();
    early::open_console();
    let text = prepared.and_then(|()| read_cmdline(cmdline));
    let plan = text.and_then(|text| Ok(Plan::parse(&text)?));
    let debug = plan.as_ref().is_ok_and(|plan| plan.debug);
    kmsg::init(kmsg::Reader::Kernel, debug);
    let plan = plan?;
    greet(&plan);

    let mut modules = Modules::open()?;
    device::load_ublk(&modules)?;
    let base = reach::reach(&plan, &mut modules, Drivers::Ours)?;
    let kind = root::kind(&plan.root, &base.path, base.kind())?;
    let cow = cow::reach(&plan, &base, &mut modules, Drivers::Ours)?;
    let attached = thread::scope(|scope| {
        // Loading the root's driver takes as long as starting the daemon. If it fails, mounting says so.
        let load = || {
            kind.split(',')
                .next()
                .map(|kind| modules.load_filesystem(kind))
        };
        let _without = thread::Builder::new().spawn_scoped(scope, load);
        let cow = merge::before(&plan, &base, cow);
        device::serve(
            &base,
            cow,
            (plan.durability, plan.session.clone()),
            plan.lost_s,
        )
    })?;

    let sysroot = Path::new(SYSROOT);
    root::mount(&attached.device(), &kind, sysroot, &plan.root, &modules)?;
    let init = switch::find_init(sysroot, plan.root.init.as_deref())?;
    switch::prepare(sysroot)?;
    finish(&plan, sysroot);
    log::info!(
        "starting '{}' after {:.1} s",
        init.display(),
        started.elapsed().as_secs_f32()
    );
    switch::switch_root(sysroot, &init, &init_args(&plan.root))
}

fn greet(plan: &Plan) {
    log::info!(
        "version {}: base '{}', writes go to {}",
        env!("CARGO_PKG_VERSION"),
        plan.base,
        plan.cow
    );
}

/// The last that is done before the root at `sysroot` becomes `/`: what its user should know, and what it takes
/// to end well. Nothing here is worth failing a boot for.
fn finish(plan: &Plan, sysroot: &Path) {
    if let Ok(Some(Answer::Status(report))) = protocol::ask(device::ID, &Question::Status) {
        root::warn_of_promises(sysroot, &report);
        if let Err(error) = login::tell(Path::new("/run"), &report.warnings) {
            log::warn!("preparing what a login says: {error:#}");
        }
    }
    root::warn_without_modules(sysroot);
    early::prepare_for_sleep();
    exit::prepare();
    if let Source::Nfs(share) = &plan.base.medium
        && let Err(error) = network::leave_alone(share.server, Path::new("/run"))
    {
        log::warn!(
            "{error:#}; what the root starts may take the network down, and with it the root"
        );
    }
}

fn read_cmdline(cmdline: Option<&Path>) -> anyhow::Result<String> {
    let path = cmdline.unwrap_or(Path::new("/proc/cmdline"));
    let text = std::fs::read(path)
        .with_context(|| format!("reading the kernel command line from '{}'", path.display()))?;
    // Other people's words may have any letters.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// As /init the kernel has given us what is meant for init; else it is what follows `--`.
fn init_args(words: &RootWords) -> Vec<OsString> {
    if First::of_this() == Some(First::Init) {
        std::env::args_os().skip(1).collect()
    } else {
        words.init_args.iter().map(OsString::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_process_boots() {
        let error = run(None).unwrap_err().to_string();
        assert!(error.contains("PID 1"), "{error}");
        assert_eq!(First::of_this(), None);
    }
}
