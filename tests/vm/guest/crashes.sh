# A device that nobody serves any more: supervisor and daemon were killed, or the daemon crashes again and again.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/room.sh
. /usr/lib/cowtest/room.sh
dd if=/dev/urandom of=/tmp/base bs=1M count=8 2>/dev/null
attach() { cowroot attach --base /tmp/base --cow tmpfs:16M; }
is_served_by_another() { [ "$(number pid)" != "$1" ]; }
none_left() { ! grep -q ^cowroot /proc/[0-9]*/comm && [ ! -e /dev/ublkb0 ]; }
check attach attach
kill -9 "$(number supervisor)" "$(number pid)"
dd if=/dev/ublkb0 of=/dev/null bs=1M iflag=direct 2>/tmp/said &
sleep 3
# Who waits gets errors when the device is given up, and no sooner.
check waits kill -0 $!
check give-up timeout 20 cowroot detach 0
wait $!
check then-fails grep -qi "i/o error\|input/output error" /tmp/said
check none-left soon none_left
# Of its own doing: that ends in a state, not in restarts for ever.
check attach-again attach
for _ in 1 2 3 4 5 6; do
	pid=$(number pid)
	kill -ABRT "$pid"
	soon is_served_by_another "$pid"
done
status_json failed
check says-why sh -c 'cowroot status | grep -q "6th time in a row"'
check fails-at-once soon [ ! -e /dev/ublkb0 ]
check detach timeout 20 cowroot detach 0
check none-left-of-it soon none_left
# An instance that crashes once goes on.
check attach-once-more attach
pid=$(number pid)
kill -ABRT "$pid"
check another soon is_served_by_another "$pid"
check reads cmp /tmp/base /dev/ublkb0
check detach-it cowroot detach --all
