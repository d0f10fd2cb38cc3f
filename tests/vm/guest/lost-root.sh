# A root whose stick, with the cowfile and perhaps the base on it, is pulled out and put back while it is written and read:
# a pause, and no error. The check runs from RAM: the root is what waits. The word pulls= is the stick's number.
# shellcheck shell=sh
if [ ! -d /run/t ]; then
	mkdir -p /run/t && cp /usr/bin/cowroot /usr/lib/cowtest/*.sh /run/t
	cp /usr/lib/cowtest/busybox /run/t 2>/dev/null || cp /bin/busybox /run/t
	/run/t/busybox --install -s /run/t
	PATH=/run/t /run/t/busybox sh /run/t/lost-root.sh
	return
fi
# shellcheck source=tests/vm/guest/lib.sh
. /run/t/lib.sh
# shellcheck source=tests/vm/guest/pull.sh
. /run/t/pull.sh
stick=$(sed -n 's/.*pulls=\([0-9]*\).*/\1/p' /proc/cmdline)
check root-is-ublk grep -q '^/dev/ublkb0 / ' /proc/mounts
dd if=/dev/urandom of=/run/random bs=64k count=16 2>/dev/null
: >/run/said && cowroot status --json >/run/status
load() {
	while [ ! -e /run/enough ]; do
		dd if=/run/random of=/load bs=64k conv=fsync 2>/dev/null || echo write >>/run/said
		echo 3 >/proc/sys/vm/drop_caches
		cmp -s /run/random /load && cat /usr/lib/cowtest/*.sh /usr/bin/cowroot >/dev/null || echo read >>/run/said
		: >/run/done-one
	done
	: >/run/ended
}
load &
for n in 0 1 2; do
	usleep $((($(od -An -N2 -tu2 /dev/urandom) % 3000) * 1000))
	pulled "${stick:-0}"
	# shellcheck source=tests/vm/guest/lost-seen.sh
	. /run/t/lost-seen.sh
done
: >/run/enough
check load-ends soon [ -e /run/ended ]
check nothing-failed [ ! -s /run/said ]
check no-request-failed [ "$(number failed_requests)" = 0 ]
check no-error sh -c '! dmesg | grep "error.*ublkb0"'
