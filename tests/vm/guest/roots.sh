# A root file system, $fs, on the device: made, used, attached again, clean, and the same. Sourced.
# shellcheck shell=sh disable=SC2154
modprobe "$fs"
case $fs in ext4) force=-F ;; *) force=-f ;; esac
check "mkfs-$fs" tool "mkfs.$fs" -q "$force" /dev/ublkb0
check "mount-$fs" mount -t "$fs" /dev/ublkb0 /mnt
check "use-$fs" cp -r /tools/usr/sbin /tools/usr/lib/udev /mnt/
rm -r /mnt/udev
if [ "$fs" = ext4 ]; then
	mount -o bind /mnt /tools/mnt/root
	check fsx tool fsx -q -S 5 -N 1500 -P /tmp /mnt/root/fsx
	umount /tools/mnt/root
fi
check "unmount-$fs" umount /mnt
check "detach-$fs" cowroot detach --all
check "attach-$fs" attach
case $fs in ext4) fsck='e2fsck -fn' ;; xfs) fsck='xfs_repair -n' ;; *) fsck='btrfs check' ;; esac
# shellcheck disable=SC2086 # a command and its option
check "fsck-$fs" tool $fsck /dev/ublkb0
mount -t "$fs" /dev/ublkb0 /mnt
check "same-$fs" diff -r /tools/usr/sbin /mnt/sbin
umount /mnt
