# A merge that is cut in the middle, its undo log lost: it goes on without one when told to, and then an old log is no good.
# shellcheck shell=sh
modprobe vfat
mkdir /s && mount -t vfat /dev/vda /s && dd if=/dev/urandom of=/tmp/base bs=1M count=32
sum() { sha256sum <"$1"; }
session() {
	cowroot create /s/a.cow --base /tmp/base --max-size 64M && cowroot attach --base /tmp/base --cow /s/a.cow &&
		dd if=/dev/urandom of=/dev/ublkb0 bs=1M count=4 && dd if=/dev/urandom of=/dev/ublkb0 bs=1M seek=24 count=4 &&
		sum /dev/ublkb0 >/run/device && cowroot detach --all
}
# No file is written behind this: the base's first half is, and the rest is not.
cut() { (ulimit -f $((20 << 11)) && cowroot merge /s/a.cow --into /tmp/base --undo-log /tmp/log); }
is() { [ "$(sum /tmp/base)" = "$1" ]; }
check session session
before=$(sum /tmp/base)
cut
refused is-cut "a merge is under way" cowroot merge /s/a.cow --next-boot
is "$before" && report first-half-is-written FAILED
mv /tmp/log /tmp/lost
refused only-with-its-log "--without-undo-log goes on" cowroot merge /s/a.cow --into /tmp/base
refused not-a-new-log "opening undo log" cowroot merge /s/a.cow --into /tmp/base --undo-log /tmp/log
check goes-on cowroot merge /s/a.cow --into /tmp/base --without-undo-log
check base-alone is "$(cat /run/device)"
refused old-log "went on without it" cowroot merge --undo /tmp/lost --into /tmp/base /s/a.cow
check still is "$(cat /run/device)"
check cowfile cowroot check /s/a.cow
