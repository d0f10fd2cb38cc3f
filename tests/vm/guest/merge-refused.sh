# A damaged session is not merged, and which files that concerns is told; nor are a wrong base, a mounted one, and more
# than FAT can hold. Of two sessions the lower one is merged.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
mount -o bind /tmp /tools/tmp
none_left() { [ -z "$(ls /dev/ublkb* /tmp/new* /stick/new* 2>/dev/null)" ]; }
untouched() { [ "$(sha256sum </tmp/base)" = "$before" ]; }
# with COMMAND...: while the session's device is mounted at /mnt.
with() { cowroot attach --base /tmp/base --cow /tmp/a.cow && mount -t ext4 /dev/ublkb0 /mnt && "$@" && umount /mnt && cowroot detach --all; }
alone() { mount -t ext4 -o loop,ro /tmp/base /mnt && "$@" && umount /mnt; }
lines() { yes "$1" | head -c 40000 >"/mnt/$1"; }
files() { mkdir -p /mnt/dir && lines dir/victim && lines other; }
has() { [ "$(cd /mnt && echo ot* up*)" = "$1" ]; }
session() {
	truncate -s 64M /tmp/base && tool mkfs.ext4 -q -F /tmp/base && cowroot create /tmp/a.cow --base /tmp/base --max-size 64M && with files
}
# at AT BYTE: it has this one there.
at() { printf %s "$2" | dd of=/tmp/a.cow bs=1 seek="$1" conv=notrunc; }
# AT: without the page of a tree there nothing says what is in a stretch of the device, and the victim is in it.
page_concerns() {
	at $(($1 + 3)) X
	cowroot merge /tmp/a.cow --into /tmp/base --dry-run 2>&1 | grep "damaged at bytes.*below show there; that concerns .*'/dir/victim'"
	concerns=$?
	at $(($1 + 3)) R
	return $concerns
}
# Pages begin with their checksum, and some are older ones.
pages() { LC_ALL=C tool /usr/bin/grep -aboP 'COWR\x03\x00' /tmp/a.cow | cut -d: -f1; }
some_page_concerns() { for page in $(pages); do page_concerns "$page" && return; done; }
check session session
check files-of-a-page some_page_concerns
before=$(sha256sum </tmp/base)
at=$(tool /usr/bin/grep -abo -m1 dir/victim /tmp/a.cow | head -n1 | cut -d: -f1)
at "$at" X
refused which-files "below show there; that concerns '/dir/victim'" cowroot merge /tmp/a.cow --into /tmp/base
refused which-files-of-an-image "that concerns '/dir/victim'" cowroot merge /tmp/a.cow --base /tmp/base --output /tmp/new.img
check nothing-left none_left
check dropped cowroot check /tmp/a.cow --repair --drop-damaged --save /tmp/saved
truncate -s 4G /tmp/large
check create-large cowroot create /tmp/l.cow --base /tmp/large --max-size 64M
check stick mount_stick
refused too-large-for-fat "make it on another file system" cowroot merge /tmp/l.cow --base /tmp/large --output /stick/new.img
check nothing-left-there none_left
refused wrong-base "made for another base" cowroot merge /tmp/a.cow --into /tmp/large
rm /tmp/l.cow
check refused-while-mounted alone refused mounted "in use by /dev/loop" cowroot merge /tmp/a.cow --into /tmp/base
check untouched untouched
check upper cowroot session new /tmp/a.cow --name upper
check upper-writes with lines upper
check merge-the-lower cowroot merge /tmp/a.cow --into /tmp/base --up-to main
check the-lower-alone alone has 'other up*'
check both with has 'other upper'
