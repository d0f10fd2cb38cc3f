//! The file systems that media have, and how each is mounted.

/// How a file system must be mounted so that its driver replays nothing.
pub(in crate::media) struct Harmless {
    pub(in crate::media) kind: &'static str,
    /// The driver's name for it.
    pub(in crate::media) driver: &'static str,
    /// Tried in this order: what newer kernels call an option comes first.
    pub(in crate::media) options: &'static [&'static str],
}

pub(in crate::media) const fn harmless(
    kind: &'static str,
    driver: &'static str,
    options: &'static [&'static str],
) -> Harmless {
    Harmless {
        kind,
        driver,
        options,
    }
}

/// The media that can hold a base.
pub(in crate::media) const HARMLESS: &[Harmless] = &[
    harmless("iso9660", "iso9660", &[""]),
    harmless("ext2", "ext4", &["noload"]),
    harmless("ext3", "ext4", &["noload"]),
    harmless("ext4", "ext4", &["noload"]),
    // A copy of a medium has the same UUID, and XFS would refuse the second one.
    harmless("xfs", "xfs", &["norecovery,nouuid"]),
    harmless("btrfs", "btrfs", &["rescue=nologreplay", "nologreplay"]),
    harmless("vfat", "vfat", &["utf8", ""]),
    harmless("exfat", "exfat", &[""]),
    harmless("squashfs", "squashfs", &[""]),
    harmless("erofs", "erofs", &[""]),
    harmless("f2fs", "f2fs", &["norecovery", "disable_roll_forward"]),
];

/// The file systems a cowfile can lie in, as they are mounted to be written; options as for `HARMLESS`.
pub(in crate::media) const WRITABLE: &[Harmless] = &[
    harmless("ext2", "ext4", &[""]),
    harmless("ext3", "ext4", &[""]),
    harmless("ext4", "ext4", &[""]),
    harmless("xfs", "xfs", &[""]),
    harmless("btrfs", "btrfs", &[""]),
    harmless("vfat", "vfat", &["utf8", ""]),
    harmless("exfat", "exfat", &[""]),
];
