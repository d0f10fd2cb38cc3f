#!/bin/sh
# /init of the mini initramfs: mount what a system has, run the check, power off.
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
for module in virtio_pci virtio_blk loop crc32c_generic ext4; do modprobe "$module"; done
# shellcheck source=tests/vm/guest/lib.sh
. /usr/lib/cowtest/lib.sh
cowtest=$(sed -n 's/.*cowtest=\([^ ]*\).*/\1/p' /proc/cmdline)
# shellcheck source=/dev/null
. "/usr/lib/cowtest/$cowtest.sh"
report finished
sync
poweroff -f
