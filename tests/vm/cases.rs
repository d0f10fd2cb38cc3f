//! The table: every boot this project promises to survive, one line each.
//! The name says initramfs, medium and claim.

use crate::apt::{BACKPORTS, NEWEST};
use crate::case::Case;
use crate::home::Home::{
    Dracut, DracutBefore, DracutNewest, DracutPlain, InitramfsTools, MkinitcpioShim,
    MkinitcpioShimSystemd,
};
use crate::initramfs::Initramfs::{Bare, BareShell, BareSpoilt, BareWithout, MiniWithout};
use crate::kernel::Packing::{Gz, Plain, Zst};
use crate::kernel::Spoilt;
use crate::media::Content::{
    DebianBoots, DebianIso, DebianSysv, Mini, MiniBoots, MiniBootsWithOffset, MiniDirty, MiniGpt,
    MiniHybrid, MiniModules, MiniNested, MiniRaw, Package, Pocket, PocketToMerge, Random, Root,
    Stick, Tools,
};
use crate::media::Fs::{Btrfs, Erofs, Ext4, Iso, Squashfs, Vfat, Xfs};
use crate::nfs::Server::{
    Kernel, Kernel3, Nobody, UserSpace, UserSpace41, UserSpaceDebian, UserSpaceNested,
    UserSpaceNetworks,
};
use crate::qemu::Firmware::{Bios, Uefi};
use crate::rootfs::RootFs::{
    self, Ext2, Ext4Blocks1k, Ext4Cut, Ext4Damaged, Ext4Large, F2fs, Xfs512,
};
use crate::stick::Stick as New;

/// All cases, in the order they run: the thin path first.
#[rustfmt::skip]
#[allow(clippy::too_many_lines, reason = "a table")]
pub(crate) fn all() -> Vec<Case> {
    const LABEL: &str = "cowroot=LABEL=LIVE:/live/root.img";
    const SMALL: &str = "cowroot=LABEL=LIVE:/live/root.img cowroot.cow=tmpfs:64M";
    const CLOSED: &str = "the session is closed, and its media are free";
    const POCKET: &str = "cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=LIVE:/cowroot/session.cow,create leave=shutdown verb=poweroff";
    /// 128 MiB, each byte moved three times, take six seconds at this rate.
    const MERGE_BPS: u64 = 60_000_000;
    const MERGE: &str = "cowroot=LABEL=LIVE:/live/root.img leave=shutdown verb=poweroff quiet rd.timeout=5 systemd.default_device_timeout_sec=5";
    const KEPT: &str = "cowroot.cow=LABEL=LIVE:/cowroot/session.cow,create";
    const MERGED: [&str; 5] = [KEPT, KEPT, KEPT, KEPT, "cowroot.cow=tmpfs"];
    const SESSION: &str = "cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/cowroot/session.cow,create leave=shutdown verb=poweroff";
    vec![
        // A live system, whole: Debian with systemd from an ISO.
        Case::bare("bare cd multi-user").cd(DebianIso).words(LABEL).guest("multi-user").quiet_s(60)
            .console("re-mounted").console("Power down").never("[FAILED]"),
        Case::bare("bare disk multi-user-long").disk(DebianIso).words(LABEL).guest("multi-user").quiet_s(60)
            .console("re-mounted").console("Power down").never("[FAILED]"),

        // What `make deb` makes, installed there, used, and purged.
        Case::bare("bare cd deb").cd(DebianIso).disk(Package).words(LABEL).guest("deb").quiet_s(80),

        // Media that boot themselves: boot loader and sample menu, from a drive and copied to a stick.
        // Its session goes on in the kernel that systemd starts (kexec), which systemd halts.
        Case::iso("iso cd bios session-systemd-long", Bios).cd(DebianBoots).stick(Stick(New::Vfat)).disk(Tools).entry("persistent").words("leave=shutdown boot=1 verb=kexec then=halt").guest("kexec").memory(1024).quiet_s(100)
            .console(CLOSED).never("[FAILED]").never("efi: EFI v"),
        Case::iso("iso cd uefi", Uefi).cd(MiniBoots).guest("root").quiet_s(25).console("efi: EFI v"),
        Case::iso("iso stick bios", Bios).stick(MiniBoots).guest("root").quiet_s(16).never("efi: EFI v"),
        Case::iso("iso stick uefi", Uefi).stick(MiniBoots).guest("root").quiet_s(28).console("efi: EFI v"),
        Case::iso("iso cd menu-persistent", Bios).cd(MiniBoots).stick(Stick(New::Vfat)).entry("persistent").words("leave=shutdown verb=poweroff boot=1").guest("session").quiet_s(30)
            .console(CLOSED),
        Case::iso("iso cd menu-throwaway", Bios).cd(MiniBoots).entry("throwaway").guest("root")
            .fails_with("finding the medium 'LABEL=COWROOT'").quiet_s(45),
        // A stick and its partition that show one ISO: both whole, and only the stick whole.
        Case::bare("bare stick isohybrid").stick(MiniHybrid).words(LABEL).guest("root").quiet_s(14).console(" /dev/sda1: "),
        Case::bare("bare stick cut-off-partition").stick(MiniBootsWithOffset).words(LABEL).guest("root").quiet_s(14).console(" /dev/sda: "),

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

        // Sessions that stay, from one boot to the next; the stick is clean when the machine is off.
        Case::bare("bare stick vfat session").cd(Mini(Iso)).stick(Stick(New::Vfat)).words(SESSION).guest("session").boots(3).quiet_s(20).console(CLOSED),
        Case::bare("bare stick ext4 session").cd(Mini(Iso)).stick(Stick(New::Ext4)).words(SESSION).guest("session").boots(2).quiet_s(20).console(CLOSED),
        Case::bare("bare stick exfat session-halt").cd(Mini(Iso)).stick(Stick(New::Exfat)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/cowroot/session.cow,create leave=shutdown verb=halt").guest("session").boots(2).quiet_s(20).console(CLOSED),
        Case::bare("bare stick partition session").cd(Mini(Iso)).disk(Stick(New::Partition)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=PARTLABEL=COWROOT,create leave=shutdown verb=poweroff").guest("session").boots(2).quiet_s(20).console(CLOSED),
        // Forced off, by no shutdown program: what was synced is there. Reboot is another verb of the same program.
        Case::bare("bare stick vfat session-forced").cd(Mini(Iso)).stick(Stick(New::Vfat)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/cowroot/session.cow,create").guest("session").boots(2).quiet_s(20),
        // sysvinit gives nothing back to an initramfs: our script takes it. Its killall5 must spare the daemon.
        Case::bare("bare stick vfat session-sysvinit").cd(DebianSysv).stick(Stick(New::Vfat)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/cowroot/session.cow,create leave=shutdown").guest("session").each(&["verb=reboot", "verb=poweroff"]).quiet_s(60)
            .console(CLOSED).console("a bystander is terminated").never("ended by SIGKILL"),
        Case::bare("bare stick ext4 session-reboot").cd(Mini(Iso)).stick(Stick(New::Ext4)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/cowroot/session.cow,create leave=shutdown verb=reboot").guest("session").boots(2).quiet_s(20).console(CLOSED),
        // A session that is kept, one in RAM over it, a new one on it: by the command line alone.
        Case::bare("bare stick vfat session-words").cd(Mini(Iso)).stick(Stick(New::Vfat)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/session.cow,create leave=shutdown verb=poweroff").guest("session-words")
            .each(&["", "cowroot.session=throwaway", "cowroot.session=new:second", "cowroot.session=resume:second"]).quiet_s(16).console(CLOSED),
        // The first boot loads a kernel, the second is that one.
        Case::bare("bare stick ext4 session-kexec").disk(Tools).cd(MiniBoots).stick(Stick(New::Ext4)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/cowroot/session.cow,create leave=shutdown boot=1 verb=kexec then=poweroff").guest("kexec").memory(1024).quiet_s(30).console(CLOSED),
        // Base and cowfile on one stick, in one file system. The base in it stays as it is.
        Case::bare("bare stick vfat pocket").stick(Pocket(Vfat)).words(POCKET).guest("session").boots(2).quiet_s(25).console(CLOSED),
        Case::bare("bare stick ext4 pocket").stick(Pocket(Ext4)).words(POCKET).guest("session").boots(2).quiet_s(25).console(CLOSED),
        Case::bare("bare none stick-missing").cd(Mini(Iso)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/session.cow,create cowroot.wait=3").fails_with("finding the medium 'LABEL=COWROOT'").quiet_s(12),
        Case::bare("bare none stick-missing-fallback").cd(Mini(Iso)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/session.cow,create cowroot.wait=3 cowroot.fallback=tmpfs").guest("fallback").quiet_s(14)
            .console("nothing that is written will be kept"),
        Case::bare("bare stick no-cowfile-fallback").cd(Mini(Iso)).stick(Stick(New::Vfat)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/session.cow cowroot.fallback=tmpfs").guest("fallback").quiet_s(14),
        // A cowfile's medium that is there and no good is never passed over.
        Case::bare("bare disk no-good-no-fallback").cd(Mini(Iso)).disk(Random(8)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=/dev/vda:/session.cow cowroot.fallback=tmpfs").fails_with("no file system is recognised on it").quiet_s(12),
        Case::bare("bare stick no-cowfile").cd(Mini(Iso)).stick(Stick(New::Vfat)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/session.cow").fails_with("it is not there").quiet_s(12),

        // The initramfs of each distribution's tool, each with a systemd of its release or none.
        Case::home("dracut-059 stick vfat session-long", DracutBefore).cd(Mini(Iso)).stick(Stick(New::Vfat)).words(SESSION).guest("session").boots(2).memory(1024).console(CLOSED),
        Case::home("dracut-106 cd root-long", Dracut).cd(Mini(Iso)).words(LABEL).guest("root").memory(1024),
        Case::home("dracut-106 stick vfat session", Dracut).cd(Mini(Iso)).stick(Stick(New::Vfat)).words(SESSION).guest("session").boots(2).memory(1024).console(CLOSED),
        Case::home("dracut-059 cd root-long", DracutBefore).cd(Mini(Iso)).words(LABEL).guest("root").memory(1024),
        Case::home("dracut-106-plain cd root", DracutPlain).cd(Mini(Iso)).words(LABEL).guest("root").memory(1024),
        Case::home("dracut-newest cd root", DracutNewest).cd(Mini(Iso)).words(LABEL).guest("root").memory(1024),
        Case::home("dracut-106-plain stick vfat session-long", DracutPlain).cd(Mini(Iso)).stick(Stick(New::Vfat)).words(SESSION).guest("session").boots(2).memory(1024).console(CLOSED),
        Case::home("dracut-106-plain stick vfat session-exitrd-long", DracutPlain).cd(Mini(Iso)).stick(Stick(New::Vfat)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/cowroot/session.cow,create leave=shutdown verb=poweroff exitrd=dracut").guest("session").boots(2).memory(1024)
            .console(CLOSED).console("Unmounted /oldroot"),
        Case::home("dracut-106 cd multi-user-long", Dracut).cd(DebianIso).words(LABEL).guest("multi-user").memory(1024).quiet_s(100)
            .console(CLOSED).never("[FAILED]"),
        Case::home("dracut-106 nfs dhcp", Dracut).server(UserSpace).words("net.ifnames=0 ip=dhcp cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("root").memory(1024).console("by NFS 4").console("is kept, also when its lease ends"),
        Case::home("dracut-059 nfs dhcp", DracutBefore).server(UserSpace).words("net.ifnames=0 ip=dhcp cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("root").memory(1024).console("by NFS 4").console("is kept, also when its lease ends"),
        Case::home("dracut-106-plain nfs v4-long", DracutPlain).server(UserSpace).words("net.ifnames=0 ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("root").memory(1024).console("by NFS 4"),
        Case::home("dracut-106 nfs unreachable-long", Dracut).server(Nobody).words("net.ifnames=0 ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:none cowroot=nfs:10.0.2.77:/export:/r cowroot.wait=5 rd.shell=0 rd.emergency=reboot").guest("root").memory(1024)
            .restarts_with("reaching the NFS server '10.0.2.77' (TCP port 2049): "),
        Case::home("initramfs-tools nfs v4", InitramfsTools).server(UserSpace).words("net.ifnames=0 ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("root").memory(1024).console("by NFS 4"),
        Case::home("mkinitcpio-shim nfs v4-long", MkinitcpioShim).server(UserSpace).words("net.ifnames=0 ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("root").memory(1024).console("by NFS 4"),
        Case::home("mkinitcpio-shim-systemd nfs v4-long", MkinitcpioShimSystemd).server(UserSpace).words("net.ifnames=0 ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("root").memory(1024).console("by NFS 4"),
        Case::home("dracut-newest nfs v4-long", DracutNewest).server(UserSpace).words("net.ifnames=0 ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("root").memory(1024).console("by NFS 4"),
        // A failure is told, and no other root is taken, be it there and named.
        Case::home("dracut-106 disk not-found", Dracut).disk(MiniRaw).words("cowroot=LABEL=LIVE:/live/root.img cowroot.wait=3 root=/dev/vda rd.shell=0 rd.emergency=reboot").guest("root").memory(1024)
            .restarts_with("finding the medium 'LABEL=LIVE'").console("the boot cannot go on"),
        Case::home("dracut-106-plain disk unknown-words-long", DracutPlain).disk(MiniRaw).words("cowroot=LABEL=LIVE:/live/root.img cowroot.weit=3 root=/dev/vda rd.shell=0 rd.emergency=reboot").guest("root").memory(1024)
            .restarts_with("is 'cowroot.wait' meant?"),
        Case::home("dracut-106 disk unknown-words-long", Dracut).disk(MiniRaw).words("cowroot=LABEL=LIVE:/live/root.img cowroot.weit=3 root=/dev/vda rd.shell=0 rd.emergency=reboot").guest("root").memory(1024)
            .restarts_with("is 'cowroot.wait' meant?"),
        Case::home("initramfs-tools disk not-found", InitramfsTools).disk(MiniRaw).words("cowroot=LABEL=LIVE:/live/root.img cowroot.wait=3 root=/dev/vda").guest("root").memory(1024)
            .restarts_with("finding the medium 'LABEL=LIVE'").console("the boot cannot go on"),
        Case::home("dracut-newest stick vfat session-long", DracutNewest).cd(Mini(Iso)).stick(Stick(New::Vfat)).words(SESSION).guest("session").boots(2).memory(1024).console(CLOSED),
        Case::home("initramfs-tools stick vfat session", InitramfsTools).cd(Mini(Iso)).stick(Stick(New::Vfat)).words(SESSION).guest("session").boots(2).memory(1024).console(CLOSED),
        Case::home("initramfs-tools cd multi-user", InitramfsTools).cd(DebianIso).words(LABEL).guest("multi-user").memory(1024).quiet_s(100)
            .console(CLOSED).never("[FAILED]"),

        // mkinitcpio, as a shim. /dev/vda is another root, and a good one: only a boot without our words may take it.
        Case::home("mkinitcpio-shim cd root-long", MkinitcpioShim).cd(Mini(Iso)).disk(MiniRaw).words("cowroot=LABEL=LIVE:/live/root.img root=/dev/vda").guest("root").never("real root").never("fsck"),
        Case::home("mkinitcpio-shim stick vfat session", MkinitcpioShim).cd(Mini(Iso)).stick(Stick(New::Vfat)).words(SESSION).guest("session").boots(2).console(CLOSED),
        Case::home("mkinitcpio-shim none not-found", MkinitcpioShim).disk(MiniRaw).words("cowroot=LABEL=LIVE:/x cowroot.wait=1 root=/dev/vda").guest("root").fails_with("finding the medium 'LABEL=LIVE'")
            .console("emergency shell, number 3").never("real root").never("fsck").never("late hook"),
        Case::home("mkinitcpio-shim none wrong-words", MkinitcpioShim).disk(MiniRaw).words("cowroot=LIVE root=/dev/vda").guest("root").fails_with("'cowroot': 'LIVE'")
            .console("emergency shell, number 3").never("real root").never("fsck").never("late hook"),
        Case::home("mkinitcpio-shim disk not-asked", MkinitcpioShim).disk(MiniRaw).words("root=/dev/vda ro").guest("not-asked").console("real root").console("fsck").never("cowroot["),
        Case::home("mkinitcpio-shim-systemd cd root-long", MkinitcpioShimSystemd).cd(Mini(Iso)).words("cowroot=LABEL=LIVE:/live/root.img root=/dev/not-there").guest("root").memory(1024),
        Case::home("mkinitcpio-shim-systemd stick vfat session-long", MkinitcpioShimSystemd).cd(Mini(Iso)).stick(Stick(New::Vfat)).words(SESSION).guest("session").boots(2).memory(1024).console(CLOSED),
        Case::home("mkinitcpio-shim-systemd cd multi-user", MkinitcpioShimSystemd).cd(DebianIso).words(LABEL).guest("multi-user").memory(1024).quiet_s(100)
            .console(CLOSED).never("[FAILED]"),
        Case::home("mkinitcpio-shim-systemd none not-found", MkinitcpioShimSystemd).disk(MiniRaw).words("cowroot=LABEL=LIVE:/x cowroot.wait=1 root=/dev/vda").guest("root").memory(1024).fails_with("finding the medium 'LABEL=LIVE'")
            .console("shim: emergency shell").never("Switch Root"),
        Case::home("mkinitcpio-shim-systemd none wrong-words-long", MkinitcpioShimSystemd).disk(MiniRaw).words("cowroot=LIVE root=/dev/vda").guest("root").memory(1024).fails_with("'cowroot': 'LIVE'")
            .console("shim: emergency shell").never("Switch Root"),
        Case::home("mkinitcpio-shim-systemd disk not-asked", MkinitcpioShimSystemd).disk(MiniRaw).words("root=/dev/vda ro").guest("not-asked").memory(1024).never("cowroot["),

        // A full cowfile under a root of each kind.
        Case::bare("bare root ext4-full").disk(Root(Ext4Large)).words(SMALL).guest("full-root").quiet_s(25).console("df will show").console("80 % full").console("95 % full"),
        Case::bare("bare root xfs-full").disk(Root(RootFs::Xfs)).words(SMALL).console("160 MiB are enough").guest("full-root").quiet_s(25).console("df will show").console("80 % full").console("95 % full"),
        Case::bare("bare root btrfs-full").disk(Root(RootFs::Btrfs)).words(SMALL).guest("full-root").quiet_s(25).console("df will show").console("80 % full").console("95 % full"),

        Case::bare("bare stick vfat full").disk(Root(Ext4Large)).stick(Stick(New::Vfat)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/cowroot/session.cow,create=96M leave=shutdown verb=poweroff").guest("full-stick").quiet_s(40)
            .console("80 % full").console("90 % full").console("95 % full").console(CLOSED),
        // The login is PAM's, which shows what is said in /run/motd.d.
        Case::bare("bare cd full-multi-user-long").cd(DebianIso).words(SMALL).guest("full-multi-user").quiet_s(80).console("re-mounted").console("Power down").console("cowroot: the cowfile is more than 95 % full"),

        // Out of memory under a root.
        Case::bare("bare root oom-512M").disk(Root(Ext4Large)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=tmpfs:160M").guest("oom").memory(512).quiet_s(60),
        Case::bare("bare root oom-1G-long").disk(Root(Ext4Large)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=tmpfs:160M").guest("oom").memory(1024).quiet_s(80),

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
        Case::bare("bare disk not-found-list").cd(Random(8)).disk(MiniGpt(Vfat)).words("cowroot=LABEL=OTHER:/live/root.img cowroot.wait=8").fails_with("finding the medium 'LABEL=OTHER'").quiet_s(15)
            .console("/dev/sr0: 8 MiB, nothing recognised").console(" MiB, partitions").console("vfat, LABEL=LIVE, UUID=1A2B-3C4D, PARTLABEL=live-part"),
        Case::bare("bare disk path-not-there").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/no/such.img").fails_with("/no/such.img").quiet_s(8),

        // Two media of one name: one content is one medium, and its partition is taken; else refused.
        Case::bare("bare disk two-of-a-name").disk(Mini(Ext4)).disk(Mini(Iso)).words(LABEL).fails_with("2 media answer to that name").quiet_s(8)
            .console("/dev/vda: 6").console("/dev/vdb: "),

        // What goes wrong with a medium or a base.
        Case::bare("bare disk unknown-medium").disk(Random(8)).words("cowroot=/dev/vda:/live/root.img").fails_with("mounting '/dev/vda': no file system").quiet_s(8),
        Case::bare("bare disk partition-not-named").disk(MiniGpt(Ext4)).words("cowroot=/dev/vda:/live/root.img").fails_with("mounting '/dev/vda': it is a whole disk with partitions").quiet_s(8),
        Case::bare("bare disk no-driver").initramfs(BareWithout("vfat")).disk(Mini(Vfat)).words(LABEL).fails_with("getting a driver for vfat").quiet_s(8),
        Case::bare("bare root unknown").disk(Random(8)).words("cowroot=/dev/vda").fails_with("looking for a root file system in '/dev/vda': none is recognised").quiet_s(8),
        Case::bare("bare root not-writable").disk(Mini(Squashfs)).words("cowroot=/dev/vda").fails_with("it holds squashfs, which cannot be written").quiet_s(8),
        Case::bare("bare root cut").disk(Root(Ext4Cut)).words(LABEL).fails_with("/live/root.img': the ext4 in it says that it has").quiet_s(8),
        Case::bare("bare root damaged").disk(Root(Ext4Damaged)).words(LABEL).fails_with("mounting the root '/dev/ublkb0' (ext4, writable): Bad message (os error 74); it is damaged").quiet_s(8),
        Case::bare("bare root no-init").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE").fails_with("it holds 'live', 'lost+found': is that a whole system?").quiet_s(8),
        Case::bare("bare root init-not-there").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img init=/no/such").fails_with("'/no/such'").quiet_s(8),
        Case::bare("bare root no-modules").disk(Mini(Ext4)).words(LABEL).guest("root").console("the root has no modules for the running kernel"),
        Case::bare("bare root modules").disk(MiniModules).words(LABEL).guest("root").never("the root has no modules"),

        // The policy after it, and machines too small.
        Case::bare("bare none shell").initramfs(BareShell).words("cowroot=LABEL=LIVE:/x cowroot.wait=1").fails_with("starting a shell").quiet_s(8)
            .console("a shell on a terminal"),
        Case::bare("bare disk little-ram").disk(Mini(Ext4)).words(LABEL).guest("little-ram").memory(96).console("the machine can run out of memory before it is full"),
        Case::bare("bare disk cow-too-large").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=tmpfs:4G").fails_with("sizing the cowfile: 4 GiB of tmpfs are more than this machine's RAM").quiet_s(8),

        // Kernel words and module packings.
        Case::bare("bare disk ro").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img ro").guest("ro"),
        Case::bare("bare disk rootflags").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img rootfstype=ext4 rootflags=noatime,commit=7,nodiscard").guest("rootflags"),
        Case::bare("bare disk other-init").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img init=/sbin/other-init").guest("other-init"),
        // A console that is not there: PID 1 starts with its first descriptors closed.
        Case::bare("bare disk no-console").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img console=ttyS9").guest("root"),
        Case::bare("bare disk cow-size").disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=tmpfs:48M").guest("cow-size").never("df will show"),
        Case::bare("bare none unknown-words").words("cowroot=LABEL=LIVE:/x cowroot.nonsense=1").fails_with("cowroot.nonsense").quiet_s(8),
        Case::bare("bare none later-words").words("cowroot=LABEL=LIVE:/x cowroot.toram").fails_with("cowroot.toram").quiet_s(8),
        Case::bare("bare none many-words").words("cowroot=LIVE cowroot.wait=soon cowroot.nonsense=1 cowroot.toram").fails_with("4 problems").quiet_s(8)
            .console("'cowroot': 'LIVE'").console("'cowroot.wait': 'soon'").console("'cowroot.nonsense' is unknown").console("'cowroot.toram' is not available"),
        Case::bare("bare disk modules-plain").initramfs(Bare(Plain)).disk(Mini(Ext4)).words(LABEL).guest("root"),
        Case::bare("bare disk modules-zst").initramfs(Bare(Zst)).disk(Mini(Ext4)).words(LABEL).guest("root"),
        Case::bare("bare disk modules-gz").initramfs(Bare(Gz)).disk(Mini(Ext4)).words(LABEL).guest("root"),
        Case::bare("bare disk no-ublk").initramfs(BareWithout("ublk_drv")).disk(Mini(Ext4)).words(LABEL).fails_with("ublk_drv").quiet_s(8),

        Case::bare("bare disk ublk-of-another-kernel").initramfs(BareSpoilt("ublk_drv", Spoilt::OtherKernel)).disk(Mini(Ext4)).words(LABEL).fails_with("ublk_drv.ko': the kernel refused it").quiet_s(8),
        Case::bare("bare disk ublk-cut").initramfs(BareSpoilt("ublk_drv", Spoilt::Cut)).disk(Mini(Ext4)).words(LABEL).fails_with("ublk_drv.ko': the kernel refused it").quiet_s(8),
        Case::bare("bare disk driver-refused").initramfs(BareSpoilt("virtio_blk", Spoilt::Cut)).disk(Mini(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.wait=3").fails_with("virtio_blk.ko': the kernel refused it").quiet_s(10),

        // Bases on NFS: by each version and both kinds of server, whose image changes, and what goes wrong with them.
        Case::bare("bare nfs v4").server(UserSpace).words("ip=10.0.2.15:::255.255.255.0::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("root").quiet_s(14).console("by NFS 4.2"),
        Case::bare("bare nfs v4 multi-user-long").server(UserSpaceDebian).words("ip=10.0.2.15:::24::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("nfs-multi-user").quiet_s(80)
            .console("re-mounted").console("Power down").never("[FAILED]"),
        Case::bare("bare nfs v4 networks-long").server(UserSpaceNetworks).words("ip=10.0.2.15::10.0.2.2:24::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("nfs-networks").memory(1024).quiet_s(120)
            .console("Power down"),
        Case::bare("bare nfs v4 nested").server(UserSpaceNested).words("ip=10.0.2.15:::24::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img!/LiveOS/squashfs.img!/LiveOS/rootfs.img cowroot.nfsopts=port={port}").guest("root").quiet_s(16),
        Case::bare("bare nfs v4 falls-to-4.1").server(UserSpace41).words("ip=10.0.2.15::10.0.2.2:24:box::off cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("root").quiet_s(16).console("by NFS 4.1"),
        Case::bare("bare nfs v4 kernel").server(Kernel).words("ip=192.168.76.2:::24::eth0:none cowroot=nfs:192.168.76.1:/export:/live/root.img").guest("root").quiet_s(14).console("by NFS 4.2"),
        Case::bare("bare nfs v4 ipv6").server(Kernel).words("ip=[fd76::2]:::64::eth0:none cowroot=nfs:[fd76::1]:/export:/live/root.img").guest("root").quiet_s(14).console("by NFS 4.2"),
        Case::bare("bare nfs v3").server(Kernel).words("ip=192.168.76.2:::24::eth0:none cowroot=nfs:192.168.76.1:/export:/live/root.img cowroot.nfsopts=vers=3").guest("root").quiet_s(14).console("by NFS 3"),
        Case::bare("bare nfs v3 ipv6-falls-to-3").server(Kernel3).words("ip=[fd76::2]:::64::eth0:none cowroot=nfs:[fd76::1]:/export:/live/root.img").guest("root").quiet_s(14).console("by NFS 3"),
        Case::bare("bare nfs v4 away-long").server(UserSpace).words("deed=away ip=10.0.2.15:::24::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("nfs").quiet_s(110),
        Case::bare("bare nfs v3 away").server(Kernel).words("deed=away ip=192.168.76.2:::24::eth0:none cowroot=nfs:192.168.76.1:/export:/live/root.img cowroot.nfsopts=vers=3").guest("nfs").quiet_s(110),
        // Its server exports nothing for a while.
        Case::bare("bare nfs v4 exported-late").server(Kernel).words("deed=late ip=192.168.76.2:::24::eth0:none cowroot=nfs:192.168.76.1:/export:/live/root.img").guest("nfs").quiet_s(40),
        Case::bare("bare nfs v3 exported-late-long").server(Kernel).words("deed=late ip=192.168.76.2:::24::eth0:none cowroot=nfs:192.168.76.1:/export:/live/root.img cowroot.nfsopts=vers=3").guest("nfs").quiet_s(40),
        Case::bare("bare nfs v4 replaced").server(UserSpace).words("deed=replace ip=10.0.2.15:::24::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("nfs").quiet_s(50).console("the base '/run/cowroot/medium/live/root.img' was "),
        Case::bare("bare nfs v4 changed-long").server(Kernel).words("deed=change ip=192.168.76.2:::24::eth0:none cowroot=nfs:192.168.76.1:/export:/live/root.img").guest("nfs").quiet_s(50).console("was changed on its server"),
        Case::bare("bare nfs v4 removed-long").server(UserSpace).words("deed=remove ip=10.0.2.15:::24::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img cowroot.nfsopts=port={port}").guest("nfs").quiet_s(50).console("was removed from its server"),
        Case::bare("bare nfs v4 nested-changed-long").server(UserSpaceNested).words("deed=change ip=10.0.2.15:::24::eth0:none cowroot=nfs:10.0.2.2:/export:/live/root.img!/LiveOS/squashfs.img!/LiveOS/rootfs.img cowroot.nfsopts=port={port}").guest("nfs").quiet_s(50).console("the base '/run/cowroot/medium/live/root.img' was changed on its server"),
        Case::bare("bare nfs v3 replaced-long").server(Kernel).words("deed=replace ip=192.168.76.2:::24::eth0:none cowroot=nfs:192.168.76.1:/export:/live/root.img cowroot.nfsopts=vers=3").guest("nfs").quiet_s(50).console("was replaced by another file"),
        Case::bare("bare nfs v3 changed").server(Kernel).words("deed=change ip=192.168.76.2:::24::eth0:none cowroot=nfs:192.168.76.1:/export:/live/root.img cowroot.nfsopts=vers=3").guest("nfs").quiet_s(50).console("was changed on its server"),
        Case::bare("bare nfs none no-card").words("ip=10.0.2.15:::24::eth0:none cowroot=nfs:10.0.2.2:/export:/r cowroot.wait=3").fails_with("the interface that ip= means is not there").quiet_s(10).console("There is no network interface at all"),
        Case::bare("bare nfs none no-address").server(Nobody).words("cowroot=nfs:10.0.2.2:/export:/r").fails_with("no network: the command line gives this machine no address").quiet_s(8),
        Case::bare("bare nfs none dhcp").server(Nobody).words("ip=dhcp cowroot=nfs:10.0.2.2:/export:/r").fails_with("no network: this initramfs asks nobody for an address").quiet_s(8),
        Case::bare("bare nfs none no-way").server(Nobody).words("ip=10.0.2.15:::24::eth0:none cowroot=nfs:192.0.2.1:/export:/r cowroot.wait=3").fails_with("does the word ip= name the right network").quiet_s(10).console("There is 'eth0' (up)"),
        Case::bare("bare nfs none unreachable").server(Nobody).words("ip=10.0.2.15:::24::eth0:none cowroot=nfs:10.0.2.77:/export:/r cowroot.wait=10").fails_with("reaching the NFS server '10.0.2.77' (TCP port 2049): ").console("is that its address, does it run").quiet_s(15),
        Case::bare("bare nfs none refused").server(Nobody).words("ip=10.0.2.15:::24::eth0:none cowroot=nfs:10.0.2.2:/export:/r cowroot.nfsopts=port=9 cowroot.wait=8").fails_with("reaching the NFS server '10.0.2.2' (TCP port 9): Connection refused").quiet_s(10),
        Case::bare("bare nfs v4 wrong-export").server(UserSpace).words("ip=10.0.2.15:::24::eth0:none cowroot=nfs:10.0.2.2:/nothing:/r cowroot.nfsopts=port={port}").fails_with("mounting '10.0.2.2:/nothing' (NFS 4.2): No such file or directory (os error 2); the server exports no such folder").quiet_s(12),
        Case::bare("bare nfs v4 not-there").server(UserSpace).words("ip=10.0.2.15:::24::eth0:none cowroot=nfs:10.0.2.2:/export:/live/other.img cowroot.nfsopts=port={port}").fails_with("looking for '/live/other.img' on the medium: not there; '/live' holds 'root.img'").quiet_s(12),
        Case::bare("bare nfs v3 wrong-export").server(Kernel).words("ip=192.168.76.2:::24::eth0:none cowroot=nfs:192.168.76.1:/nothing:/r cowroot.nfsopts=vers=3").fails_with("mounting '192.168.76.1:/nothing' (NFS 3): ").quiet_s(12),
        Case::bare("bare nfs v3 not-for-us").server(Kernel).words("ip=192.168.76.2:::24::eth0:none cowroot=nfs:192.168.76.1:/closed:/r cowroot.nfsopts=vers=3").fails_with("the server does not export that folder, or not to this machine").quiet_s(12),

        // attach, detach, status.
        Case::mini("mini file attach", "attach"),
        Case::mini("mini disk stages", "stages").disk(Mini(Ext4)).disk(Stick(New::Vfat)).quiet_s(20),
        Case::mini("mini file many-devices", "many-devices"),
        Case::mini("mini file two-sessions", "two-sessions"),
        Case::mini("mini disk mounted-not-detached", "mounted").disk(MiniRaw),
        Case::mini("mini disk claimed", "claimed").disk(MiniRaw),
        Case::mini("mini slow-disk ram-first", "ram-first").slow_disk(Random(64), 64 * 1024),
        Case::mini("mini file killed-daemon-alone", "killed-daemon"),
        Case::mini("mini file settles", "settles"),
        Case::mini("mini file start-failures", "start-failures").quiet_s(25),
        Case::mini("mini file no-module", "no-module").initramfs(MiniWithout("ublk_drv")),
        Case::mini("mini disk full-cow", "full-cow").disk(MiniRaw).console("80 % full").console("90 % full").console("95 % full"),
        Case::mini("mini file discard", "discard"),
        Case::mini("mini file swap", "swap"),

        // Cowfiles that stay, on sticks of each kind.
        Case::mini("mini stick ext4 cowfile", "cowfile").disk(Tools).disk(Stick(New::Ext4)).words("stick=ext4").quiet_s(40),
        Case::mini("mini stick vfat cowfile", "cowfile").disk(Tools).disk(Stick(New::Vfat)).words("stick=vfat roots=ext4,xfs,btrfs").quiet_s(90),
        Case::mini("mini stick exfat cowfile-long", "cowfile").disk(Tools).disk(Stick(New::Exfat)).words("stick=exfat roots=ext4,xfs,btrfs").quiet_s(90),
        Case::mini("mini stick partition cowfile", "cowfile").disk(Tools).disk(Stick(New::Partition)).words("stick=partition").quiet_s(40),
        Case::mini("mini stick xfs cowfile-long", "cowfile").disk(Tools).disk(Stick(New::Xfs)).words("stick=xfs").quiet_s(40),
        Case::mini("mini stick btrfs cowfile", "cowfile").disk(Tools).disk(Stick(New::Btrfs)).words("stick=btrfs").quiet_s(40),
        Case::mini("mini stick vfat cowfile-refused", "cowfile-refused").disk(Tools).disk(Stick(New::Vfat)).words("stick=vfat").quiet_s(30),
        Case::mini("mini stick exfat cowfile-refused-long", "cowfile-refused").disk(Tools).disk(Stick(New::Exfat)).words("stick=exfat").quiet_s(30),

        Case::mini("mini stick vfat sessions", "sessions").disk(MiniRaw).disk(Stick(New::Vfat)).quiet_s(25),
        Case::mini("mini stick vfat session-export", "session-export").disk(MiniRaw).disk(Stick(New::Vfat)),
        Case::mini("mini stick vfat over-4-gib-long", "over-4-gib").disk(Tools).disk(Stick(New::VfatLarge)).words("stick=vfat").quiet_s(200),
        Case::mini("mini stick vfat sessions-in-use", "sessions-in-use").disk(MiniRaw).disk(Stick(New::Vfat)).quiet_s(25),
        // What a session changed, told and carried over.
        Case::mini("mini file diff", "diff").disk(Tools).memory(1024).quiet_s(60),

        // Sessions merged into their bases: offline, undone, into a new image; at the next boot, cut twice in the middle.
        Case::mini("mini disk merge", "merge").disk(Random(64)).disk(Stick(New::Vfat)).cd(Mini(Iso)).quiet_s(40),
        Case::mini("mini file merge-damaged", "merge-damaged").disk(Tools).quiet_s(20),
        Case::mini("mini file merge-log-lost", "merge-log-lost").disk(Stick(New::Vfat)).quiet_s(20),
        Case::mini("mini file merge-refused", "merge-refused").disk(Tools).disk(Stick(New::Vfat)).words("stick=vfat").quiet_s(30),
        Case::bare("bare cd merge-output").cd(Mini(Iso)).stick(Stick(New::Ext4)).guest("merge-output").each(&["cowroot=LABEL=LIVE:/live/root.img", "cowroot=LABEL=COWROOT:/new.img"]).quiet_s(20),
        Case::mini("mini stick vfat merge-at-boot", "merge-boot").disk(Tools).disk(Stick(New::Vfat)).words("stick=vfat cowroot=/dev/vdb:/base.img cowroot.cow=/dev/vdb:/session.cow").boots(3).quiet_s(60),
        Case::mini("mini disk ext4 merge-at-boot", "merge-boot").disk(Tools).disk(Stick(New::Ext4)).disk(Stick(New::Vfat)).words("stick=ext4 cowroot=/dev/vdb:/base.img cowroot.cow=/dev/vdc:/session.cow").boots(3).quiet_s(60),
        // The same where others are the initramfs's init, whose patience for a device is five seconds here; `quiet` as distributions
        // have it. The last boot has the base alone. On no machine is a merge over before the power goes.
        Case::home("dracut-106 stick vfat merge-at-boot-long", Dracut).slow_stick(PocketToMerge(Vfat), MERGE_BPS).words(MERGE).guest("merge-root").each(&MERGED).cuts(2).memory(1024).quiet_s(60),
        Case::home("initramfs-tools stick vfat merge-at-boot", InitramfsTools).slow_stick(PocketToMerge(Vfat), MERGE_BPS).words(MERGE).guest("merge-root").each(&MERGED).cuts(2).memory(1024).quiet_s(60),

        // Daemons that are killed, again and again: each store and kernel once, under one of two loads.
        Case::mini("mini file kills", "kills").disk(Tools).words("store=tmpfs").kills(200),
        Case::mini("mini stick ext4 kills-long", "kills").disk(Tools).disk(Stick(New::Ext4)).words("store=cowfile stick=ext4").kills(200),
        Case::mini("mini file newest-kernel-kills-long", "kills").kernel(NEWEST).disk(Tools).words("store=tmpfs").kills(200),
        Case::mini("mini stick ext4 newest-kernel-kills", "kills").kernel(NEWEST).disk(Tools).disk(Stick(New::Ext4)).words("store=cowfile stick=ext4").kills(200),

        Case::mini("mini disk kills-work-long", "kills-work").disk(Tools).words("store=tmpfs").kills(200),
        Case::mini("mini disk newest-kernel-kills-work", "kills-work").kernel(NEWEST).disk(Tools).words("store=tmpfs").kills(200),
        Case::mini("mini stick vfat kills-work", "kills-work").disk(Tools).disk(Stick(New::Vfat)).words("store=cowfile stick=vfat made=--file-size,32M").kills(200),
        Case::mini("mini stick vfat newest-kernel-kills-work-long", "kills-work").kernel(NEWEST).disk(Tools).disk(Stick(New::Vfat)).words("store=cowfile stick=vfat made=--file-size,32M").kills(200),
        // At the border: a cowfile that is full, and full, and full again.
        Case::mini("mini stick vfat kills-full", "kills-full").disk(Tools).disk(Stick(New::Vfat)).words("store=cowfile stick=vfat made=--max-size,48M,--file-size,20M").kills(50),
        Case::mini("mini stick ext4 newest-kernel-kills-full-long", "kills-full").kernel(NEWEST).disk(Tools).disk(Stick(New::Ext4)).words("store=cowfile stick=ext4 made=--max-size,48M").kills(50),
        Case::mini("mini stick vfat both-killed", "both-killed").disk(Tools).disk(Stick(New::Vfat)).words("store=cowfile stick=vfat").quiet_s(30),
        Case::mini("mini stick ext4 newest-kernel-both-killed-long", "both-killed").kernel(NEWEST).disk(Tools).disk(Stick(New::Ext4)).words("store=cowfile stick=ext4").quiet_s(30),
        Case::mini("mini file stopped", "stopped").quiet_s(90),
        Case::mini("mini file crashes", "crashes").quiet_s(25),
        Case::mini("mini file upgrade", "upgrade").disk(Tools).quiet_s(50),
        Case::mini("mini stick vfat upgrade", "upgrade").disk(Tools).disk(Stick(New::Vfat)).words("stick=vfat").quiet_s(60),

        // Sticks that are pulled out and put back.
        Case::mini("mini stick vfat lost", "lost").disk(Tools).stick(Stick(New::Vfat)).spare_stick(Stick(New::Vfat)).words("stick=vfat").quiet_s(60),
        Case::mini("mini stick xfs lost-base", "lost-base").disk(Tools).stick(Stick(New::Xfs)).spare_stick(Stick(New::Partition)).spare_stick(Stick(New::Partition)).words("stick=xfs").quiet_s(60),
        Case::mini("mini stick partition lost-for-good", "lost-for-good").disk(Tools).stick(Stick(New::Partition)).words("stick=partition").quiet_s(30),
        Case::bare("bare stick ext4 pocket-lost").stick(Pocket(Ext4)).words(POCKET).guest("lost-root").quiet_s(40).console(CLOSED),
        Case::bare("bare card ext4 pocket-lost-long").stick(Pocket(Ext4)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=LIVE:/cowroot/session.cow,create leave=shutdown verb=poweroff drive=stays").guest("lost-root").quiet_s(40).console(CLOSED),
        Case::bare("bare cd lost").cd(Mini(Iso)).words("cowroot=LABEL=LIVE:/live/root.img drive=stays").guest("lost-root").quiet_s(40),
        Case::bare("bare card partition attached").cd(Mini(Iso)).stick(Stick(New::Ext4InPartition)).words("cowroot=LABEL=LIVE:/live/root.img drive=stays").guest("card-attached").quiet_s(20),
        Case::mini("mini card vfat lost-long", "lost").disk(Tools).stick(Stick(New::Vfat)).spare_stick(Stick(New::Vfat)).words("stick=vfat drive=stays").quiet_s(60),
        Case::mini("mini card partition lost-long", "lost").disk(Tools).stick(Stick(New::Partition)).spare_stick(Stick(New::Partition)).words("stick=partition drive=stays").quiet_s(60),
        Case::home("dracut-106 cd stick-lost-long", Dracut).cd(DebianIso).stick(Stick(New::Ext4)).words("cowroot=LABEL=LIVE:/live/root.img cowroot.cow=LABEL=COWROOT:/cowroot/session.cow,create leave=shutdown pulls=1").guest("lost-systemd").memory(1024).quiet_s(90)
            .console(CLOSED),
        Case::mini("mini stick ext4 lost-long", "lost").disk(Tools).stick(Stick(New::Ext4)).spare_stick(Stick(New::Ext4)).words("stick=ext4 base=stick").quiet_s(70),
        Case::mini("mini stick exfat newest-kernel-lost-long", "lost").kernel(NEWEST).disk(Tools).stick(Stick(New::Exfat)).spare_stick(Stick(New::Exfat)).words("stick=exfat").quiet_s(60),
        Case::mini("mini stick xfs lost-long", "lost").disk(Tools).stick(Stick(New::Xfs)).spare_stick(Stick(New::Xfs)).words("stick=xfs base=stick").quiet_s(70),
        Case::mini("mini stick partition lost-long", "lost").disk(Tools).stick(Stick(New::Partition)).spare_stick(Stick(New::Partition)).words("stick=partition").quiet_s(60),

        // The kernel that users of the release before can have.
        Case::bare("bare disk backports-kernel").kernel(BACKPORTS).disk(Mini(Ext4)).words(LABEL).guest("root"),
        Case::mini("mini file backports-kernel-attach", "attach").kernel(BACKPORTS),

        // The newest kernel there is. Its version is printed; it may change under us.
        Case::bare("bare disk newest-kernel").kernel(NEWEST).disk(Mini(Ext4)).words(LABEL).guest("root"),
        Case::bare("bare cd newest-kernel-multi-user-long").kernel(NEWEST).cd(DebianIso).words(LABEL).guest("multi-user").quiet_s(60)
            .console("re-mounted").console("Power down").never("[FAILED]"),
        Case::bare("bare root newest-kernel-suspend-writes").kernel(NEWEST).disk(Root(Ext4Large)).words(LABEL).guest("suspend-writes").quiet_s(30),
        Case::mini("mini file newest-kernel-attach", "attach").kernel(NEWEST),
        Case::mini("mini file newest-kernel-killed-daemon", "killed-daemon").kernel(NEWEST),
        Case::mini("mini file newest-kernel-discard", "discard").kernel(NEWEST),
    ]
}

/// The cases that kill daemons, with so many kills each.
pub(crate) fn killing(count: u64) -> Vec<Case> {
    let killing = all().into_iter().filter(|case| case.kills > 0);
    killing.map(|case| case.kills(count)).collect()
}
