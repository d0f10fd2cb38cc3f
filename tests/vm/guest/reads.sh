# Somebody who reads a device whose base lies on a stick, while that is pulled out and put back. Sourced.
# shellcheck shell=sh disable=SC2154
reads() {
	while [ ! -e /tmp/enough ]; do
		echo 3 >/proc/sys/vm/drop_caches
		[ "$(head -c 8388608 /dev/ublkb0 | sha256sum)" = "$sum" ] || : >/tmp/wrong
		: >/tmp/read-one
	done
}
goes_on() { rm -f /tmp/read-one && soon [ -e /tmp/read-one ] && soon [ -e /tmp/read-one ]; }
# pulled_and_put STICK NAME
pulled_and_put() {
	host pull "$1"
	check "$2-waits" soon health waiting
	[ "$1" = 1 ] || { host put 3 && check another-is-not-taken soon said "sampled chunks differ" && host pull 3 && host sum 3; }
	host put "$1"
	check "$2-is-back" soon health ok
	check "$2-reads" goes_on
}
