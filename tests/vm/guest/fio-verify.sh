# fio that verifies what it writes to the device until fio_ends, which fails if anything was wrong. Sourced.
# shellcheck shell=sh
(
	tool fio --filename=/dev/ublkb0 --direct=1 --rw=randrw --verify=crc32c --verify_fatal=1 --ioengine=libaio --time_based \
		--runtime=100000 --size=24M --minimal --verify_backlog=64 --verify_state_save=0 --name=deep --bs=4k --iodepth=32 \
		--name=odd --bs=1536 --offset=48M --iodepth=4 --fsync=16 >/tmp/fio 2>&1
	: >/tmp/ended
) &
fio_ends() { killall -INT fio && soon [ -e /tmp/ended ] && [ "$(grep -c '^3;[^;]*;[^;]*;[^;]*;0;' /tmp/fio)" = 2 ]; }
