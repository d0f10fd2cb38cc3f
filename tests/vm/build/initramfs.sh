#!/bin/sh
# Have a distribution's own tool make an initramfs: initramfs.sh TAR MODULES OVER IMAGE COMMAND
# In the tree of TAR, with the kernel's MODULES (/lib/modules) and the files of OVER in it, COMMAND makes /initrd.
# A namespace of its own: what is mounted there goes with it, and no rights of root's are needed.
set -eu
if [ "${IN_NAMESPACE-}" != yes ]; then
	[ "$(id -u)" = 0 ] || user='--map-root-user --map-auto'
	# shellcheck disable=SC2086 # none or two words
	IN_NAMESPACE=yes exec unshare ${user-} --mount --fork --kill-child sh "$0" "$@"
fi
tar=$1 modules=$2 over=$3 image=$4 command=$5
tree=$(mktemp -d)
mount -t tmpfs tree "$tree"
tar -C "$tree" --exclude='./dev/*' -xpf "$tar"
mkdir -p "$tree/usr/lib/modules"
mount --bind "$modules" "$tree/usr/lib/modules"
mount --rbind /dev "$tree/dev"
mount --rbind /proc "$tree/proc"
cp -r "$over/." "$tree/"
chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -euc "$command" >&2
cp "$tree/initrd" "$image"
umount -R "$tree" || umount -lR "$tree"
rmdir "$tree"
