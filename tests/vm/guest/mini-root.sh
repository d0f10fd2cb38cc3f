#!/bin/sh
# /sbin/init of the busybox root: run the check the kernel command line names, then power off.
export PATH=/bin:/sbin:/usr/bin
# shellcheck source=tests/vm/guest/lib.sh
. /usr/lib/cowtest/lib.sh
export started_as="$0"
cowtest=$(sed -n 's/.*cowtest=\([^ ]*\).*/\1/p' /proc/cmdline)
# shellcheck source=/dev/null
. "/usr/lib/cowtest/$cowtest.sh"
report finished
sync
mount -o remount,ro / 2>/dev/null
grep -q leave=shutdown /proc/cmdline || poweroff -f
# As systemd does at the end (systemd.io/INITRD_INTERFACE): back to the initramfs, with the root at /oldroot.
cd /run/initramfs || exit
mkdir -p oldroot proc sys dev run
mount --bind . .
cd /run/initramfs || exit
for kernels in proc sys dev; do mount --move /$kernels $kernels; done
mount --rbind /run run
pivot_root . oldroot
verb=$(sed -n 's/.*verb=\([^ ]*\).*/\1/p' /proc/cmdline)
exec <dev/console
exec >dev/console 2>&1
exec chroot . /shutdown "$verb"
