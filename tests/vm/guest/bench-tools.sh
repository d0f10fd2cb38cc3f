# The bench's tools: what Debian's programs need, the bench itself, the end.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/lib.sh
. /usr/lib/cowtest/lib.sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
printf 'BENCH-MACHINE %s, %s CPUs, clock %s\n' "$(uname -rv)" "$(nproc)" \
	"$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" >/dev/ttyS1
check bench /usr/bin/bench "$1" "$2"
report finished
sync
poweroff -ff
