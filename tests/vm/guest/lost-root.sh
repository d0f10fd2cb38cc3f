# A root whose stick, with base and cowfile on it, is pulled out and put back while it is written and read: a pause, and
# no error. The check runs from RAM: the root is what waits.
# shellcheck shell=sh
if [ ! -d /run/t ]; then
	mkdir -p /run/t && cp /bin/busybox /usr/bin/cowroot /usr/lib/cowtest/*.sh /run/t
	/run/t/busybox --install -s /run/t
	PATH=/run/t /run/t/busybox sh /run/t/lost-root.sh
	return
fi
# shellcheck source=tests/vm/guest/lib.sh
. /run/t/lib.sh
# shellcheck source=tests/vm/guest/pull.sh
. /run/t/pull.sh
check root-is-ublk root_is_ublk
dd if=/dev/urandom of=/run/random bs=64k count=16 2>/dev/null
: >/run/said
load() {
	while [ ! -e /run/enough ]; do
		dd if=/run/random of=/load bs=64k conv=fsync 2>/dev/null || echo write >>/run/said
		echo 3 >/proc/sys/vm/drop_caches
		cmp -s /run/random /load && cat /bin/busybox /usr/bin/cowroot >/dev/null || echo read >>/run/said
		: >/run/done-one
	done
	: >/run/ended
}
goes_on() { rm -f /run/done-one && soon [ -e /run/done-one ] && soon [ -e /run/done-one ]; }
load &
for n in 0 1 2; do
	usleep $((($(od -An -N2 -tu2 /dev/urandom) % 3000) * 1000))
	host pull 0
	check "waits-$n" soon health waiting
	host put 0
	check "back-$n" soon served_again $n
	check "goes-on-$n" goes_on
done
: >/run/enough
check load-ends soon [ -e /run/ended ]
check nothing-failed [ ! -s /run/said ]
check no-request-failed [ "$(number failed_requests)" = 0 ]
check no-error sh -c '! dmesg | grep "error.*ublkb0"'
