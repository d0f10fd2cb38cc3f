# A damaged session is not merged, and which files that concerns is told: of a chunk, of a page of a tree, for a new image.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
mount -o bind /tmp /tools/tmp
none_left() { [ -z "$(ls /dev/ublkb* /tmp/new* 2>/dev/null)" ]; }
untouched() { [ "$(sha256sum </tmp/base)" = "$before" ]; }
lines() { yes "$1" | head -c 40000 >"/mnt/$1"; }
session() {
	truncate -s 64M /tmp/base && tool mkfs.ext4 -q -F /tmp/base && cowroot create /tmp/a.cow --base /tmp/base --max-size 64M &&
		cowroot attach --base /tmp/base --cow /tmp/a.cow && mount -t ext4 /dev/ublkb0 /mnt &&
		mkdir -p /mnt/dir && lines dir/victim && lines other && umount /mnt && cowroot detach --all
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
pages() { tool /usr/bin/grep -aboP 'COWR\x03\x00' /tmp/a.cow | cut -d: -f1; }
some_page_concerns() { for page in $(pages); do page_concerns "$page" && return; done && false; }
check session session
before=$(sha256sum </tmp/base)
check files-of-a-page some_page_concerns
chunk=$(tool /usr/bin/grep -abo -m1 dir/victim /tmp/a.cow | head -n1 | cut -d: -f1)
at "$chunk" X
refused which-files "below show there; that concerns '/dir/victim'" cowroot merge /tmp/a.cow --into /tmp/base
refused which-files-of-an-image "that concerns '/dir/victim'" cowroot merge /tmp/a.cow --base /tmp/base --output /tmp/new.img
check nothing-left none_left
check untouched untouched
check dropped cowroot check /tmp/a.cow --repair --drop-damaged --save /tmp/saved
check merged cowroot merge /tmp/a.cow --into /tmp/base
