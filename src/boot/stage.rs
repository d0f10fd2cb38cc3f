//! The boot in steps, for an initramfs that has an init, udev and a shell of its own (dracut, mkinitcpio,
//! initramfs-tools). Its hooks call these in order and parse nothing; the steps speak through the kernel's log.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};

use super::cmdline::{self, Plan};
use super::modules::Modules;
use super::reach::{self, Drivers};
use super::{cow, device, exit, greet, merge, read_cmdline, root, take_back};
use crate::cli::{Boot, Stage};
use crate::daemon::protocol::{self, Question};
use crate::kmsg;
use crate::media::probe::probe;
use crate::media::source::Source;

/// Take one step. What it prints is for the hook that called it: `parse` prints "local" or "network", by where the
/// base is, or nothing if cowroot was not asked for.
///
/// # Errors
/// What is wrong with the command line, the media, the device or the root. The initramfs must not go on then, least
/// of all with another root.
pub fn run(stage: Stage, options: &Boot) -> anyhow::Result<()> {
    let text = read_cmdline(options.cmdline.as_deref())?;
    match stage {
        Stage::Parse => return parse(&text),
        // Whatever the machine was booted from.
        Stage::Shutdown => {
            kmsg::init(kmsg::Reader::Kernel, false);
            return exit::let_go();
        }
        Stage::TakeBack => {
            kmsg::init(kmsg::Reader::Kernel, false);
            return take_back::take_back(options.verb);
        }
        Stage::Attach | Stage::Mount | Stage::Finish => {}
    }
    let plan = Plan::parse(&text)?;
    kmsg::init(kmsg::Reader::Kernel, plan.debug);
    let drivers = match options.set_ip {
        true => Drivers::UdevsWithoutNetwork,
        false => Drivers::Udevs,
    };
    match stage {
        Stage::Parse | Stage::Shutdown | Stage::TakeBack => Ok(()),
        Stage::Attach => attach(&plan, drivers).inspect_err(|_| exit::unmount_media()),
        Stage::Mount => mount(&plan, &options.root),
        Stage::Finish => {
            super::finish(&plan, &options.root);
            Ok(())
        }
    }
}

fn parse(text: &str) -> anyhow::Result<()> {
    if cmdline::is_asked(text) {
        let plan = Plan::parse(text)?;
        let is_remote = matches!(plan.base.medium, Source::Nfs(_));
        println!("{}", if is_remote { "network" } else { "local" });
    }
    Ok(())
}

/// Find the media and serve the device. Once it is served there is nothing to do: hooks may be run again. So they may
/// where it failed, and what it had mounted is unmounted then.
fn attach(plan: &Plan, drivers: Drivers) -> anyhow::Result<()> {
    if is_served() {
        return Ok(());
    }
    greet(plan);
    let mut modules = Modules::open()?;
    device::load_ublk(&modules)?;
    let base = reach::reach(plan, &mut modules, drivers)?;
    // Before anything is made: a base that is no root needs no cowfile.
    root::kind(&plan.root, &base.path, base.kind())?;
    let cow = cow::reach(plan, &base, &mut modules, drivers)?;
    let cow = merge::before(plan, &base, cow);
    device::serve(
        &base,
        cow,
        (plan.durability, plan.session.clone()),
        plan.lost_s,
    )
    .map(drop)
}

fn mount(plan: &Plan, sysroot: &Path) -> anyhow::Result<()> {
    if !is_served() {
        bail!("mounting the root: its device is not there; 'cowroot boot --stage=attach' makes it");
    }
    let device = device::path();
    let opened = File::open(&device).with_context(|| format!("opening '{}'", device.display()))?;
    let found = probe(&opened).map(|content| content.kind);
    drop(opened);
    let kind = root::kind(&plan.root, &device, found)?;
    root::mount(&device, &kind, sysroot, &plan.root, &Modules::open()?)
}

fn is_served() -> bool {
    protocol::ask(device::ID, &Question::Status).is_ok_and(|answer| answer.is_some())
}
