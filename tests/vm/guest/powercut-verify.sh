# What a power cut must leave whole, image after image: see tests/vm/powercut/verify.rs.
# shellcheck shell=sh
on=$(sed -n 's/.*powercut=\([^ ]*\).*/\1/p' /proc/cmdline) cow=/stick/root.cow
[ "$on" = raw ] && cow=/dev/vda1
mkdir /stick /u
repair() {
	case $on in ext4) e2fsck -p /dev/vda1 ;; vfat) fsck.fat -a /dev/vda1 ;; exfat) fsck.exfat -p /dev/vda1 ;; esac
	[ $? -le 1 ]
}
attach() { must attach cowroot attach --base /dev/vdb --cow $cow --id 0 "$@"; }
# The file system on the device, as a copy: its journal is replayed, then there is nothing to complain of.
copy_is_sound() {
	dd if=/dev/ublkb0 of=/tmp/copy bs=1M && sum=$(md5sum </tmp/copy) && e2fsck -y -E journal_only /tmp/copy &&
		e2fsck -fn /tmp/copy
}
# Only now and then: it takes as long as all the rest.
read_only() {
	sum=
	[ $((asked % 4)) != 1 ] || { attach --read-only && must copy copy_is_sound && must detach cowroot detach 0; }
}
same() { [ -z "$sum" ] || [ "$(md5sum </dev/ublkb0)" = "$sum" ]; }
counter() {
	marker=$(head -c 15 /dev/vda2 | sed 's/^0*//') k=$(sed 's/^0*//' /u/witness)
	echo "counter ${k:-0}, marker ${marker:-0}"
	[ "${k:-0}" -ge "${marker:-0}" ] && { [ -z "$k" ] || yes "$k" | head -c 30000 | cmp - /u/w/$((k % 4)); }
}
read_write() { attach && must same same && must mount mount -t ext4 /dev/ublkb0 /u && must counter counter; }
image() {
	[ "$1" = plain ] || must fsck repair || return
	[ "$on" = raw ] || must mount-stick mount -t "$on" /dev/vda1 /stick || return
	must check cowroot check $cow || return
	read_only && read_write && must unmount umount /u && must fsck-root e2fsck -fn /dev/ublkb0 &&
		must detach cowroot detach 0 && { [ "$on" = raw ] || must unmount-stick umount /stick; }
}
# shellcheck source=tests/vm/guest/powercut-ask.sh
. /usr/lib/cowtest/powercut-ask.sh
