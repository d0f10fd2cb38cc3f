# A stick that is pulled out and put back under load, at any moment, again and again: nobody notices more than a pause.
# Another stick that looks like it is not taken. The word base=stick has the base there, too.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/pull.sh
. /usr/lib/cowtest/pull.sh
soon [ -b /dev/sda ]
medium=/dev/sda
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
base=/tmp/base && truncate -s 128M /tmp/base
mount_stick
grep -q base=stick /proc/cmdline && base=/stick/base && dd if=/dev/urandom of=/stick/base bs=1M count=128 conv=fsync 2>/dev/null
sum=$(tail -c 16777216 "$base" | sha256sum)
check create cowroot create "$cow" --base "$base"
check attach cowroot attach --base "$base" --cow "$cow"
(
	tool fio --filename=/dev/ublkb0 --direct=1 --rw=randrw --verify=crc32c --verify_fatal=1 --ioengine=libaio --time_based \
		--runtime=100000 --size=24M --minimal --verify_backlog=64 --verify_state_save=0 --name=deep --bs=4k --iodepth=32 \
		--name=odd --bs=1536 --offset=48M --iodepth=4 --fsync=16 >/tmp/fio 2>&1
	: >/tmp/ended
) &
seed=$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')
report seed "$seed"
for n in 0 1 2 3 4 5; do
	ms=$(awk -v "s=$seed$n" 'BEGIN { srand(s); print int(rand() * 3000) }')
	usleep $((ms * 1000)) && host pull 1
	[ $n != 1 ] || { soon health waiting && host put 2 && check not-taken soon said "is not taken for it"; }
	usleep $(((3000 - ms) * 1000)) && host put 1
	check "back-$n" soon served_again $n
	[ $n != 1 ] || { host pull 2 && sleep 1; }
done
check load-lives killall -INT fio
check load-ends soon [ -e /tmp/ended ]
check nothing-lost [ "$(grep -c '^3;[^;]*;[^;]*;[^;]*;0;' /tmp/fio)" = 2 ]
check no-request-failed [ "$(number failed_requests)" = 0 ]
check base-is-there [ "$(tail -c 16777216 /dev/ublkb0 | sha256sum)" = "$sum" ]
check no-error sh -c '! dmesg | grep "error.*ublkb0"'
status_json
# shellcheck source=tests/vm/guest/put-back.sh
. /usr/lib/cowtest/put-back.sh
