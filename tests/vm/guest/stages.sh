# The stages of a boot, by hand: one that failed leaves nothing behind and can be tried again.
# shellcheck shell=sh
stage() { cowroot boot --stage="$1" --cmdline=/run/line --root=/sysroot; }
fails() { ! "$@"; }
base='cowroot=/dev/vda:/live/root.img cowroot.wait=2'
echo 'quiet splash' >/run/line
check not-asked [ -z "$(stage parse)" ]
printf 'gr\374n quiet' >/run/line
check not-asked-in-latin [ -z "$(stage parse)" ]
echo "$base cowroot.cow=/dev/vdb:/a.cow" >/run/line
check asked [ "$(stage parse)" = local ]
check mount-too-early fails stage mount
check no-cowfile fails stage attach
check nothing-left fails grep -q /run/cowroot /proc/mounts
# A creation that a power cut ended is begun again.
mkdir /s && modprobe vfat && mount -t vfat /dev/vdb /s && echo half >/s/a.cow.part && umount /s
echo "$base cowroot.cow=/dev/vdb:/a.cow,create" >/run/line
check attach stage attach
check attach-again stage attach
mkdir /sysroot
check mount stage mount
check root-is-there [ -x /sysroot/sbin/init ]
check finish stage finish
check shutdown-program [ -x /run/initramfs/shutdown ]
check still-used fails stage shutdown
check unmount umount /sysroot
check shutdown stage shutdown
check none-left fails grep -q /run/cowroot /proc/mounts
check mount-stick mount -t vfat /dev/vdb /s
check only-the-cowfile [ "$(ls /s)" = a.cow ]
umount /s
