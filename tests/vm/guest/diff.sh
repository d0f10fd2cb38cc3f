# Which files a session has changed in its base's, on roots of each kind; carried over they make the same tree.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
root=/tools/mnt/root
mount -o bind /tmp /tools/tmp
sums() { sha256sum /tmp/base /tmp/a.cow; }
none_left() { [ -z "$(ls /dev/ublkb* 2>/dev/null)" ]; }
# mount_file FILE: what is in it is at $root.
mount_file() { loop=$(losetup -f) && losetup "$loop" "$1" && mount -t "$fs" "$loop" "$root"; }
unmount_file() { umount "$root" && losetup -d "$loop"; }
# All of a tree in one number: contents, owners, modes, times, links, nodes, extended attributes.
tree() {
	tool /usr/bin/tar --format=posix --pax-option=delete=atime,delete=ctime,exthdr.name=%f --sort=name --xattrs \
		'--xattrs-include=*' --numeric-owner -C /mnt/root -cf - . | sha256sum
}
# shellcheck source=tests/vm/guest/diff-root.sh
for fs in ext4 xfs btrfs; do . /usr/lib/cowtest/diff-root.sh; done
check attach cowroot attach --base /tmp/base --cow /tmp/a.cow
refused in-use "in use by process" cowroot diff /tmp/a.cow --base /tmp/base
cowroot detach --all
# Ended in the middle: while devices are made, and while it reads.
for moment in /dev/ublkb0 /tmp/half.tar; do
	cowroot diff /tmp/a.cow --base /tmp/base --tar /tmp/half.tar >/dev/null 2>/tmp/said &
	until [ -e $moment ]; do :; done
	kill $! && wait $!
	check "interrupted-at-$moment" grep -q interrupted /tmp/said
	check "nothing-left-at-$moment" sh -c '[ ! -e /tmp/half.tar ] && [ ! -e /dev/ublkb0 ] && [ ! -e /dev/ublkb1 ]'
done
# A whole disk with one partition.
truncate -s 16M /tmp/small && tool mkfs.ext4 -q -F /tmp/small
rm /tmp/base && truncate -s 20M /tmp/base && dd if=/tmp/small of=/tmp/base bs=1M seek=1 conv=notrunc 2>/dev/null
# Type 83, from sector 2048, 32768 sectors; and the table's mark.
printf '\0\0\0\0\203\0\0\0\0\10\0\0\0\200\0\0' | dd of=/tmp/base bs=1 seek=446 conv=notrunc 2>/dev/null
printf '\125\252' | dd of=/tmp/base bs=1 seek=510 conv=notrunc 2>/dev/null
refused another-base "carry the files over with" cowroot diff /tmp/unclean.cow --base /tmp/base
rm /tmp/a.cow && cowroot create /tmp/a.cow --base /tmp/base >/dev/null
refused which-partition "diff --partition N" cowroot diff /tmp/a.cow --base /tmp/base
refused no-such-partition "it has no partition 2" cowroot diff /tmp/a.cow --base /tmp/base --partition 2
check partition sh -c "cowroot diff /tmp/a.cow --base /tmp/base --partition 1 | grep -q '^0 added.* 0 deleted'"
