# What is not merged: into a wrong base, a mounted one, more than there is room for, and more than FAT can hold. Of two sessions
# the lower one is merged.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
mount -o bind /tmp /tools/tmp
none_left() { [ -z "$(ls /dev/ublkb* /tmp/new* /stick/new* /small/* 2>/dev/null)" ]; }
untouched() { [ "$(sha256sum </tmp/base)" = "$before" ]; }
# with COMMAND...: while the session's device is mounted at /mnt.
with() { cowroot attach --base /tmp/base --cow /tmp/a.cow && mount -t ext4 /dev/ublkb0 /mnt && "$@" && umount /mnt && cowroot detach --all; }
alone() { mount -t ext4 -o loop,ro /tmp/base /mnt && "$@" && umount /mnt; }
lines() { yes "$1" | head -c 40000 >"/mnt/$1"; }
has() { [ "$(cd /mnt && echo ot* up*)" = "$1" ]; }
session() {
	truncate -s 64M /tmp/base && tool mkfs.ext4 -q -F /tmp/base && cowroot create /tmp/a.cow --base /tmp/base --max-size 64M && with lines other
}
check session session
before=$(sha256sum </tmp/base)
mkdir /small && mount -t tmpfs -o size=40k small /small
for tried in "" --dry-run; do
	refused "no-room-for-an-image$tried" "make it on another file system" cowroot merge /tmp/a.cow --base /tmp/base --output /small/new.img $tried
	refused "no-room-for-a-log$tried" "keep it on another file system" cowroot merge /tmp/a.cow --into /tmp/base --undo-log /small/log $tried
done
truncate -s 4G /tmp/large
check create-large cowroot create /tmp/l.cow --base /tmp/large --max-size 64M
check stick mount_stick
refused too-large-for-fat "make it on another file system" cowroot merge /tmp/l.cow --base /tmp/large --output /stick/new.img
check nothing-left none_left
refused wrong-base "made for another base" cowroot merge /tmp/a.cow --into /tmp/large
rm /tmp/l.cow
check refused-while-mounted alone refused mounted "in use by /dev/loop" cowroot merge /tmp/a.cow --into /tmp/base
check untouched untouched
check upper cowroot session new /tmp/a.cow --name upper
check upper-writes with lines upper
check merge-the-lower cowroot merge /tmp/a.cow --into /tmp/base --up-to main
check the-lower-alone alone has 'other up*'
check both with has 'other upper'
