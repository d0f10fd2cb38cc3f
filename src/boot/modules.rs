//! Kernel modules: found, unpacked and loaded with their dependencies, without modprobe.
