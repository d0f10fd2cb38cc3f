# Killing the daemon, as often as the word kills= says; sourced.
# shellcheck shell=sh
store=$(sed -n 's/.*store=\([^ ]*\).*/\1/p' /proc/cmdline)
kills=$(sed -n 's/.*kills=\([^ ]*\).*/\1/p' /proc/cmdline)
# Whoever serves, or is about to.
serving() { grep -lx cowroot /proc/[0-9]*/comm 2>/dev/null | cut -d / -f 3; }
# kill_often FILE [COUNT]: until there were COUNT kills, or such a file, which says that the load has ended.
killed=0
kill_often() {
	while [ "$killed" -lt "${2:-$kills}" ] && [ ! -e "$1" ]; do
		kill -9 "$(serving)" 2>/dev/null && killed=$((killed + 1))
		usleep $((($(od -An -N2 -tu2 /dev/urandom) % 300) * 1000))
	done
	sleep 2
}
# attach_store BASE SIZE: in RAM, of that size, or on the stick, made with the options of the word made=.
made=$(sed -n 's/.*made=\([^ ]*\).*/\1/p' /proc/cmdline | tr , ' ')
attach_store() {
	[ "$store" = tmpfs ] && cow=tmpfs:$2
	# shellcheck disable=SC2086 # words
	[ "$store" = tmpfs ] || { mount_stick && cowroot create "$cow" --base "$1" $made; } || return 1
	cowroot attach --base "$1" --cow "$cow"
}
# The pauses, as the kernel's log has them.
report_pauses() {
	dmesg | sed -n 's/.*served again, after \([0-9]*\) ms.*/\1/p' | sort -n |
		awk -v killed="$killed" '{ p[NR] = $1 } END { print killed " kills, " killed - NR " of whoever was just taking over; " NR " pauses in ms: median " p[int((NR + 1) / 2)] ", p99 " p[int((NR * 99 + 99) / 100)] ", worst " p[NR] }' >/dev/ttyS0
}
