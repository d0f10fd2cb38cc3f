//! The initramfs entry: from the kernel command line to a running root.

pub mod modules;
