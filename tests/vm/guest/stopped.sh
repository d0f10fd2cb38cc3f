# A daemon that is stopped, frozen, or without its supervisor: requests wait, and none fails.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/room.sh
. /usr/lib/cowtest/room.sh
dd if=/dev/urandom of=/tmp/base bs=1M count=8 2>/dev/null
sum=$(sha256sum </tmp/base)
reads() { echo 3 >/proc/sys/vm/drop_caches && [ "$(sha256sum </dev/ublkb0)" = "$sum" ]; }
none_left() { ! grep -q ^cowroot /proc/[0-9]*/comm && [ ! -e /dev/ublkb0 ]; }
cowroot attach --base /tmp/base --cow tmpfs:16M
check possible [ "$(number possible)" = true ]
pid=$(number pid)
# For longer than any timeout of a block device.
kill -STOP "$pid"
reads &
sleep 60
check waits kill -0 $!
kill -CONT "$pid"
wait $!
check stopped-for-a-minute [ $? = 0 ]
mount -t cgroup2 cgroup /sys/fs/cgroup && mkdir /sys/fs/cgroup/a && echo "$pid" >/sys/fs/cgroup/a/cgroup.procs
echo 1 >/sys/fs/cgroup/a/cgroup.freeze
reads &
sleep 3
check waits-again kill -0 $!
echo 0 >/sys/fs/cgroup/a/cgroup.freeze
wait $!
check frozen [ $? = 0 ]
check nothing-failed [ "$(number failed_requests)" = 0 ]
check same-daemon [ "$(number pid)" = "$pid" ]
# The supervisor's death costs nothing, and is told.
kill -9 "$(number supervisor)"
sleep 1
check without-supervisor reads
status_json attention
check told sh -c 'cowroot status | grep -q "supervisor is gone"'
check detach timeout 20 cowroot detach 0
check none-left soon none_left
