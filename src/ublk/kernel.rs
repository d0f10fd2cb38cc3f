//! Whether this kernel can serve block devices from user space.

use std::fs::OpenOptions;
use std::path::Path;

use anyhow::bail;
use libublk::ctrl::UblkCtrl;

use super::{CONTROL, NEEDED};
use anyhow::Context;

/// DEL_DEV_ASYNC came with it, and without that a device cannot be deleted safely; no feature bit tells.
const OLDEST_KERNEL: (u32, u32) = (6, 9);

/// Whether this kernel can serve block devices from user space, as it is now.
///
/// # Errors
/// What is missing and what to do: the module, the kernel's support, io_uring, or the right to use it.
pub fn check_kernel() -> anyhow::Result<()> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open(CONTROL) {
        let context = format!("opening '{CONTROL}'");
        return Err(match error.kind() {
            std::io::ErrorKind::NotFound if Path::new("/sys/module/ublk_drv").exists() => {
                anyhow::anyhow!(
                    "{context}: module ublk_drv is loaded but the node is missing; is /dev a devtmpfs?"
                )
            }
            std::io::ErrorKind::NotFound => {
                anyhow::anyhow!("{context}: module ublk_drv is not loaded")
            }
            std::io::ErrorKind::PermissionDenied => {
                anyhow::Error::new(error).context(context + ": run this as root")
            }
            _ => anyhow::Error::new(error).context(context),
        });
    }
    if is_io_uring_disabled() {
        bail!("starting io_uring: it is switched off; set kernel.io_uring_disabled=0 with sysctl");
    }
    if !Path::new("/proc/sys/kernel").exists() {
        bail!("reading /proc/sys/kernel: mount /proc first");
    }
    let kernel = nix::sys::utsname::uname().context("asking for the kernel's release")?;
    let release = kernel.release().to_string_lossy();
    if release_number(&release).is_some_and(|found| found < OLDEST_KERNEL) {
        bail!(
            "checking the kernel: {release} is too old to serve a device; Linux 6.9 or newer is needed"
        );
    }
    match UblkCtrl::get_features() {
        Some(features) if features & NEEDED == NEEDED => Ok(()),
        Some(features) => bail!(
            "asking ublk_drv for its features: {features:#x} is too few; Linux 6.9 or newer is needed"
        ),
        None => bail!(
            "asking ublk_drv for its features: no answer; Linux 6.9 or newer and io_uring are needed"
        ),
    }
}

/// Whether nobody may make a new ring; those there are go on.
#[must_use]
pub fn is_io_uring_disabled() -> bool {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    disabled.is_ok_and(|disabled| disabled.trim() == "2")
}

/// Major and minor number of a kernel release like `6.12.107+deb13-amd64`.
fn release_number(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_says_how_old_it_is() {
        for (release, number) in [
            ("6.12.107+deb13-amd64", Some((6, 12))),
            ("6.8.0-64-generic", Some((6, 8))),
            ("7.2-rc1", Some((7, 2))),
            ("next", None),
        ] {
            assert_eq!(release_number(release), number, "{release}");
        }
    }
}
