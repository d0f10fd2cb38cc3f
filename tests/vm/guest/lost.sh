# A stick that is pulled out and put back under load, at any moment, again and again, also while another daemon is just
# taking over: nobody notices more than a pause. A copy of it, a little older, is not taken, and not written. The word
# base=stick has the base there, too.
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
# shellcheck source=tests/vm/guest/clone.sh
. /usr/lib/cowtest/clone.sh
check attach cowroot attach --base "$base" --cow "$cow"
# shellcheck source=tests/vm/guest/fio-verify.sh
. /usr/lib/cowtest/fio-verify.sh
# It takes its time to load, and what nobody uses nobody misses.
began() { [ "$(number requests)" -gt 500 ]; }
check fio-begins soon began
seed=$(od -An -N2 -tu2 /dev/urandom | tr -d ' ') && report seed "$seed"
for n in 0 1 2 3 4 5; do
	ms=$(awk -v "s=$seed$n" 'BEGIN { srand(s); print int(rand() * 3000) }')
	before=$(number count)
	usleep $((ms * 1000))
	case $n in 2 | 4) kill -9 "$(number pid)" && usleep $((ms * 100)) ;; esac
	pulled 1
	case $n in 1 | 2 | 4) check "waits-$n" soon health waiting ;; esac
	[ $n != 1 ] || { host put 2 && check not-taken soon said "is not taken for it.*not as it was" && host pull 2; }
	usleep $(((3000 - ms) * 1000)) && put_back 1
	check "back-$n" soon served_again "$before" && check "healthy-$n" soon health ok
done
host sum 2
check fio-sees-nothing fio_ends
check no-request-failed [ "$(number failed_requests)" = 0 ]
check base-is-there [ "$(tail -c 16777216 /dev/ublkb0 | sha256sum)" = "$sum" ]
check no-error sh -c '! dmesg | grep "error.*ublkb0"'
status_json
# shellcheck source=tests/vm/guest/put-back.sh
. /usr/lib/cowtest/put-back.sh
