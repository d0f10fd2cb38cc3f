# The machine sleeps while the root is written to and read, and no read or write fails of it.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/load.sh
. /usr/lib/cowtest/load.sh
check root-is-ublk root_is_ublk
group=/sys/fs/cgroup/user
mount -t cgroup2 cgroup /sys/fs/cgroup && mkdir $group
for n in 1 2; do load $n cold & done
for pid in $(jobs -p); do echo "$pid" >$group/cgroup.procs; done
# Sleeping or not: nobody is harmed.
sleeps 3
# As systemd 256 and later do with user.slice: who uses the root is frozen first.
freeze() {
	echo "$1" >$group/cgroup.freeze
	for _ in $(seq 100); do
		if grep -q "frozen $1" $group/cgroup.events; then return; fi
		usleep 50000
	done
}
sleeps 10
check sleeps-each-time [ "$slept" = 10 ]
check no-read-or-write-failed unharmed
refused hibernation 'not permitted' sh -c 'echo disk >/sys/power/state'
check no-disk-to-sleep-on sh -c '! grep -q disk /sys/power/state'
status_json
