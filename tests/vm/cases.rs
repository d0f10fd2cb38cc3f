//! The table: every boot this project promises to survive, one line each.
//! The name says initramfs, medium and claim.

use crate::apt::NEWEST;
use crate::case::Case;
use crate::initramfs::Initramfs::{Bare, BareWithout, MiniWithout};
use crate::kernel::Packing::{Gz, Plain, Zst};
use crate::media::Content::{
    DebianIso, Mini, MiniDirty, MiniGpt, MiniNested, MiniRaw, Random, Root,
};
use crate::media::Fs::{Btrfs, Erofs, Ext4, Iso, Squashfs, Vfat, Xfs};
use crate::rootfs::RootFs::{self, Ext2, Ext4Blocks1k, Ext4Large, F2fs, Xfs512};

/// All cases, in the order they run: the thin path first.
#[rustfmt::skip]
#[allow(clippy::too_many_lines, reason = "a table")]
pub(crate) fn all() -> Vec<Case> {
    const LABEL: &str = "cowroot=LABEL=LIVE:/live/root.img";
    const SMALL: &str = "cowroot=LABEL=LIVE:/live/root.img cowroot.cow=tmpfs:64M";
    vec![
        // A live system, whole: Debian with systemd from an ISO.
        Case::bare("bare cd multi-user").cd(DebianIso).words(LABEL).guest("multi-user").quiet_s(30)
            .console("re-mounted").console("Power down").never("[FAILED]"),
        Case::bare("bare disk multi-user").disk(DebianIso).words(LABEL).guest("multi-user").quiet_s(30)
            .console("re-mounted").console("Power down").never("[FAILED]"),

        // Media: what is on them. The medium's sha256 is compared in every case.
        Case::bare("bare disk iso9660").disk(Mini(Iso)).words(LABEL).guest("root"),
        Case::bare("bare disk ext4").disk(Mini(Ext4)).words(LABEL).guest("root"),
        Case::bare("bare disk xfs").disk(Mini(Xfs)).words(LABEL).guest("root"),
        Case::bare("bare disk btrfs").disk(Mini(Btrfs)).words(LABEL).guest("root"),
        Case::bare("bare disk vfat").disk(Mini(Vfat)).words(LABEL).guest("root"),
        Case::bare("bare disk squashfs").disk(Mini(Squashfs)).words("cowroot=/dev/vda:/live/root.img").guest("root"),
        Case::bare("bare disk erofs").disk(Mini(Erofs)).words("cowroot=/dev/vda:/live/root.img").guest("root"),
        Case::bare("bare disk dirty-journal").disk(MiniDirty).words(LABEL).guest("dirty-journal"),
        Case::bare("bare disk nested-path").disk(MiniNested).words("cowroot=LABEL=LIVE:/LiveOS/squashfs.img!/LiveOS/rootfs.img").guest("root"),

        // Roots: what is in root.img.
        Case::bare("bare root ext4-1k-blocks").disk(Root(Ext4Blocks1k(0))).words(LABEL).guest("root"),
        // Its file system uses the last chunk's first part; and a file whose last sector is not whole.
        Case::bare("bare root odd-size").disk(Root(Ext4Blocks1k(1024))).words(LABEL).guest("root"),
        Case::bare("bare root odder-size").disk(Root(Ext4Blocks1k(1024 + 100))).words(LABEL).guest("root"),
        Case::bare("bare root ext2").disk(Root(Ext2)).words(LABEL).guest("root"),
        Case::bare("bare root xfs-512-sectors").disk(Root(Xfs512)).words(LABEL).guest("root"),
        Case::bare("bare root f2fs").disk(Root(F2fs)).words(LABEL).guest("root"),

        // A full cowfile under a root of each kind.
        Case::bare("bare root ext4-full").disk(Root(Ext4Large)).words(SMALL).guest("full-root").quiet_s(25).console("df will show").console("80 % full").console("95 % full"),
        Case::bare("bare root xfs-full").disk(Root(RootFs::Xfs)).words(SMALL).console("160 MiB are enough").guest("full-root").quiet_s(25).console("df will show").console("80 % full").console("95 % full"),
        Case::bare("bare root btrfs-full").disk(Root(RootFs::Btrfs)).words(SMALL).guest("full-root").quiet_s(25).console("df will show").console("80 % full").console("95 % full"),

        Case::bare("bare cd full-multi-user").cd(DebianIso).words(SMALL).guest("full-multi-user").quiet_s(40).console("re-mounted").console("Power down"),

        // Asleep under load, and awake again.
        Case::bare("bare root suspend").disk(Root(Ext4Large)).words(LABEL).guest("suspend").quiet_s(30),

        // Media: how they are named and when they come.
        Case::bare("bare disk uuid").disk(Mini(Ext4)).words("cowroot=UUID=6f1b0c5e-8a52-4f0e-9c1d-2b7c3d4e5f60:/live/root.img").guest("root"),
        Case::bare("bare disk vfat-uuid").disk(Mini(Vfat)).words("cowroot=UUID=1A2B-3C4D:/live/root.img").guest("root"),
        Case::bare("bare gpt partuuid").disk(MiniGpt(Ext4)).words("cowroot=PARTUUID=6f1b0c5e-8a52-4f0e-9c1d-2b7c3d4e5f60:/live/root.img").guest("root"),
        Case::bare("bare gpt partlabel").disk(MiniGpt(Vfat)).words("cowroot=PARTLABEL=live-part:/live/root.img").guest("root"),
        Case::bare("bare disk by-path").disk(Mini(Ext4)).words("cowroot=/dev/vda:/live/root.img").guest("root"),
        Case::bare("bare disk whole-device").disk(MiniRaw).words("cowroot=/dev/vda").guest("root"),
        Case::bare("bare cd second-drive").cd(Random(8)).cd(Mini(Iso)).words("cowroot=/dev/sr1:/live/root.img").guest("root"),
        Case::bare("bare usb late").late_stick(Mini(Ext4), 5).words(LABEL).guest("root").quiet_s(18),
        Case::bare("bare none not-found").words("cowroot=LABEL=LIVE:/live/root.img cowroot.wait=3").fails_with("LIVE").quiet_s(10),
        Case::bare("bare disk path-not-there").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/no/such.img").fails_with("/no/such.img").quiet_s(8),

        // Kernel words and module packings.
        Case::bare("bare disk ro").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img ro").guest("ro"),
        Case::bare("bare disk rootflags").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img rootfstype=ext4 rootflags=noatime,commit=7,nodiscard").guest("rootflags"),
        Case::bare("bare disk other-init").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img init=/sbin/other-init").guest("other-init"),
        // A console that is not there: PID 1 starts with its first descriptors closed.
        Case::bare("bare disk no-console").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img console=ttyS9").guest("root"),
        Case::bare("bare disk cow-size").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=tmpfs:48M").guest("cow-size").never("df will show"),
        Case::bare("bare none unknown-words").words("cowroot=LABEL=LIVE:/x cowroot.nonsense=1").fails_with("cowroot.nonsense").quiet_s(8),
        Case::bare("bare none later-words").words("cowroot=LABEL=LIVE:/x cowroot.toram").fails_with("cowroot.toram").quiet_s(8),
        Case::bare("bare disk modules-plain").initramfs(Bare(Plain)).disk(Mini(Ext4)).words(LABEL).guest("root"),
        Case::bare("bare disk modules-zst").initramfs(Bare(Zst)).disk(Mini(Ext4)).words(LABEL).guest("root"),
        Case::bare("bare disk modules-gz").initramfs(Bare(Gz)).disk(Mini(Ext4)).words(LABEL).guest("root"),
        Case::bare("bare disk no-ublk").initramfs(BareWithout("ublk_drv")).disk(Mini(Ext4)).words(LABEL).fails_with("ublk_drv").quiet_s(8),

        // attach, detach, status.
        Case::mini("mini file attach", "attach"),
        Case::mini("mini file many-devices", "many-devices"),
        Case::mini("mini file two-sessions", "two-sessions"),
        Case::mini("mini disk mounted-not-detached", "mounted").disk(MiniRaw),
        Case::mini("mini disk claimed", "claimed").disk(MiniRaw),
        Case::mini("mini slow-disk ram-first", "ram-first").slow_disk(Random(64), 64 * 1024),
        Case::mini("mini file killed-daemon-alone", "killed-daemon"),
        Case::mini("mini file start-failures", "start-failures").quiet_s(25),
        Case::mini("mini file no-module", "no-module").initramfs(MiniWithout("ublk_drv")),
        Case::mini("mini disk full-cow", "full-cow").disk(MiniRaw).console("80 % full").console("90 % full").console("95 % full"),
        Case::mini("mini file discard", "discard"),
        Case::mini("mini file swap", "swap"),

        // The newest kernel there is. Its version is printed; it may change under us.
        Case::bare("bare disk newest-kernel").kernel(NEWEST).disk(Mini(Ext4)).words(LABEL).guest("root"),
        Case::bare("bare cd newest-kernel-multi-user").kernel(NEWEST).cd(DebianIso).words(LABEL).guest("multi-user").quiet_s(35)
            .console("re-mounted").console("Power down").never("[FAILED]"),
        Case::bare("bare root newest-kernel-suspend-writes").kernel(NEWEST).disk(Root(Ext4Large)).words(LABEL).guest("suspend-writes").quiet_s(30),
        Case::mini("mini file newest-kernel-attach", "attach").kernel(NEWEST),
        Case::mini("mini file newest-kernel-killed-daemon", "killed-daemon").kernel(NEWEST),
        Case::mini("mini file newest-kernel-discard", "discard").kernel(NEWEST),
    ]
}
