# A device handed to another binary under load; and the other binary refused.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
truncate -s 128M /tmp/base
case $stick in
'') cow=tmpfs:96M ;;
*) check mount-stick mount_stick && check create cowroot create "$cow" --base /tmp/base ;;
esac
check attach cowroot attach --base /tmp/base --cow "$cow"
supervisor=$(number supervisor)
tool fio --filename=/dev/ublkb0 --direct=1 --rw=randrw --bs=4k --size=16M --iodepth=96 --ioengine=libaio --time_based \
	--runtime=100000 --verify=crc32c --verify_fatal=1 --verify_backlog=64 --verify_state_save=0 --minimal --name=a \
	>/tmp/fio 2>&1 &
fio=$!
sleep 2
cp "$(command -v cowroot)" /tmp/newer
for n in 1 2 3; do check "upgrade-$n" timeout 60 /tmp/newer upgrade; done
check same-process [ "$(number supervisor)" = "$supervisor" ]
check is-the-other sh -c "readlink /proc/$supervisor/exe | grep -q memfd:cowroot"
kill -9 "$(number pid)"
sleep 2
check and-recovers [ "$(number possible)$(number count)" = true2 ]
# Nobody could go on: refused, and the one that serves goes on.
pid=$(number pid)
echo 2 >/proc/sys/kernel/io_uring_disabled
refused not-without-io-uring "io_uring: it is switched off" /tmp/newer upgrade 0
check goes-on [ "$(number pid)" = "$pid" ]
status_json attention
# Killed now, it is back as soon as that is possible.
kill -9 "$pid"
sleep 5
echo 0 >/proc/sys/kernel/io_uring_disabled
sleep 5
check is-back timeout 20 cowroot status
killall -INT fio
# By its number: busybox's wait for all, of a job that failed, is one for every child, and PID 1 has the daemon.
wait $fio
check nothing-lost [ "$(grep -c '^3;[^;]*;[^;]*;[^;]*;0;' /tmp/fio)" = 1 ]
check no-request-failed [ "$(number failed_requests)" = 0 ]
status_json
check detach cowroot detach --all
