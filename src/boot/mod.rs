//! The initramfs entry: from the kernel command line to a running root.

pub mod cmdline;
pub mod modules;
