//! The shim of mkinitcpio (shim/), in a tree of Debian's systemd, udev and kmod. It has what mkinitcpio documents for
//! hooks and runs the real ones of mkinitcpio-hook/; mkinitcpio itself is not in Debian.

/// What its tree has beyond Essential and apt.
pub(crate) const PACKAGES: &[&str] = &[
    "busybox-static",
    "systemd",
    "systemd-sysv",
    "udev",
    "kmod",
    "cpio",
    "zstd",
];

/// `HOOKS=` with mkinitcpio's own init.
pub(crate) const COMMAND: &str =
    "MODULES=virtio_net bash /usr/lib/shim/build.sh base udev block shutdown cowroot";

/// `HOOKS=` with systemd as its init; the units are looked at by systemd before.
pub(crate) const COMMAND_SYSTEMD: &str = "systemd-analyze verify --man=no cowroot-root.service && \
     MODULES=virtio_net bash /usr/lib/shim/build.sh base systemd block cowroot";

/// Where things lie: mkinitcpio's folder, what it takes units from, and the shim.
pub(crate) const HOOKS: &[(&str, &str)] = &[
    ("mkinitcpio-hook", "usr/lib/initcpio"),
    ("mkinitcpio-hook/units", "usr/lib/systemd/system"),
    ("tests/vm/shim", "usr/lib/shim"),
];

/// The hook's place for our binary; /usr/sbin is a link there, as in Arch.
pub(crate) const PROGRAM: &str = "usr/bin/cowroot";
