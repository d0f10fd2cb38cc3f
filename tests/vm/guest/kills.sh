# A daemon that is killed again and again under fio: no request fails, nothing that was written is lost.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
# shellcheck source=tests/vm/guest/kill.sh
. /usr/lib/cowtest/kill.sh
truncate -s 256M /tmp/base
attach_store /tmp/base 256M
# The full queue too: as many requests as the device takes, and more.
load() {
	tool fio --filename=/dev/ublkb0 --direct=1 --rw=randrw --verify=crc32c --verify_fatal=1 --ioengine=libaio \
		--time_based --runtime=100000 --size=24M --minimal --verify_backlog=64 --verify_state_save=0 \
		--name=deep --bs=4k --iodepth=96 --name=odd --bs=1536 --offset=64M --iodepth=4 --fsync=16 >/tmp/fio 2>&1
	true >/tmp/fio-ended
}
# For the pauses.
echo on >/proc/sys/kernel/printk_devkmsg
load &
sleep 2
kill_often /tmp/fio-ended
check load-lives [ ! -e /tmp/fio-ended ]
check recoveries [ "$(number count)" -gt $((kills / 2)) ]
killall -INT fio
wait
# Of a fio that is told to end the exit code says nothing: two jobs, each without an error.
check nothing-lost [ "$(grep -c '^3;[^;]*;[^;]*;[^;]*;0;' /tmp/fio)" = 2 ]
check said-so sh -c '! grep -i "verify\|error" /tmp/fio'
check no-request-failed [ "$(number failed_requests)" = 0 ]
status_json
report_pauses
check detach cowroot detach --all
check no-daemon-left sh -c '! grep -q ^cowroot /proc/[0-9]*/comm'
[ "$store" = tmpfs ] || check whole cowroot check "$cow"
