# A cowfile on a stick: made, written through its device, detached, attached again: all is there.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
check mount-stick mount_stick
truncate -s 320M /tmp/base
check create cowroot create "$cow" --base /tmp/base --max-size 640M
refused not-made-again "left as it is" cowroot create "$cow" --base /tmp/base
attach() { cowroot attach --base /tmp/base --cow "$cow"; }
# fio_verifies WORDS...: random writes of two sizes, one of them no multiple of a chunk.
fio_verifies() {
	tool fio --filename=/dev/ublkb0 --direct=1 --rw=randwrite --verify=crc32c --verify_fatal=1 --iodepth=8 \
		--ioengine=libaio --fsync=32 --minimal "$@" --name=even --bs=4k --size=12M \
		--name=odd --bs=1536 --size=3M --offset=64M
}
is_committed() { for _ in 1 2 3 4 5 6 7 8 9 10; do [ "$(number uncommitted_bytes)" = 0 ] && return || sleep 1; done && false; }
check attach attach
refused second-user "in use" cowroot attach --base /tmp/base --cow "$cow"
check fio fio_verifies --do_verify=1
status_json
check committed-unasked is_committed
check detach cowroot detach --all
check attach-again attach
check fio-again fio_verifies --verify_only=1
# shellcheck source=tests/vm/guest/roots.sh
for fs in $(sed -n 's/.*roots=\([^ ]*\).*/\1/p' /proc/cmdline | tr , ' '); do . /usr/lib/cowtest/roots.sh; done
# FAT's way to grow: in whole files. This does not fit the first.
grows() { dd if=/dev/urandom of=/dev/ublkb0 bs=1M count=80 conv=fsync && [ "$(stat -c %s "$cow.1")" = 67108864 ]; }
case $stick in *fat) check grows grows ;; esac
check detach-at-last cowroot detach --all
check whole cowroot check "$cow"
check info-is-clean sh -c "cowroot info --json '$cow' | grep -q '\"clean\": true'"
if [ "$stick" != partition ]; then
	check unmount-stick umount /stick
else
	blockdev --setro "$cow"
	refused read-only-medium "it is read-only" cowroot attach --base /tmp/base --cow "$cow"
	check read-only-all-the-same sh -c "cowroot attach --base /tmp/base --cow '$cow' --read-only && cowroot detach --all"
fi
check stick-is-clean stick_is_clean
