# A session that goes on in a kernel that the one before started (kexec), without the firmware.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/session.sh
. /usr/lib/cowtest/session.sh
load() {
	mkdir /tmp/tools
	mount -t ext4 -o ro /dev/vda /tmp/tools
	mount --bind /run/cowroot/medium /tmp/tools/mnt
	words=$(sed 's/boot=1/boot=2/; s/verb=kexec then=/verb=/' /proc/cmdline)
	for kernels in proc sys; do mount --bind /$kernels /tmp/tools/$kernels; done
	chroot /tmp/tools kexec -s -l /mnt/boot/vmlinuz --initrd=/mnt/boot/initrd --command-line="$words"
}
# shellcheck disable=SC2154 # session.sh knows it
[ "$boot" != 1 ] || check loads load
