//! The sticks of the benches that have some: a slow one, and one without delay.

use std::time::Duration;

/// A disk of the machine, and what a read, a write and a flush of it take more, in ms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stick {
    pub(crate) name: &'static str,
    pub(crate) disk: &'static str,
    pub(crate) delay: Option<[u32; 3]>,
}

/// The slow one is also slowed to 10 MB/s, by QEMU.
pub(crate) const SLOW: Stick = Stick {
    name: "slow",
    disk: "/dev/vdb",
    delay: Some([1, 5, 30]),
};
pub(crate) const FAST: Stick = Stick {
    name: "none",
    disk: "/dev/vdc",
    delay: None,
};

/// How long the background may still write, which is then the job's.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);
