# What stands between a cowfile and its device is told, and nothing is written meanwhile.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
check mount-stick mount_stick
truncate -s 64M /tmp/base /tmp/used
truncate -s 65M /tmp/other
dd if=/dev/vda of=/tmp/used bs=1M count=1 conv=notrunc 2>/dev/null
loop=$(losetup -f) && losetup "$loop" /tmp/used
attach() { cowroot attach --base /tmp/base --cow "$cow"; }
refused not-there "No such file" cowroot attach --base /tmp/base --cow "$cow"
check create cowroot create "$cow" --base /tmp/base --max-size 200M
sum=$(sha256sum <"$cow")
refused another-base "made for another base" cowroot attach --base /tmp/other --cow "$cow"
refused no-cowfile "not a cowfile" cowroot attach --base /tmp/base --cow /tmp/other
refused another-size "leave --size out" cowroot attach --base /tmp/base --cow "$cow" --size 1G
refused not-blank "there is ext4 on it" cowroot create "$loop" --base /tmp/base
refused no-device "no such device" cowroot create /dev/sdx1 --base /tmp/base
check unchanged [ "$(sha256sum <"$cow")" = "$sum" ]
check remount-read-only mount -o remount,ro /stick
refused read-only-stick "then fsck.$stick" cowroot attach --base /tmp/base --cow "$cow"
refused created-nothing "Read-only file system" cowroot create /stick/b.cow --base /tmp/base
check read-only cowroot attach --base /tmp/base --cow "$cow" --read-only
check reads-as-base cmp /dev/ublkb0 /tmp/base
check detach cowroot detach --all
check unchanged-again [ "$(sha256sum <"$cow")" = "$sum" ]
check remount-writable mount -o remount,rw /stick
# What growth can leave when the power goes: a name, zeros, and somebody else's file of that name.
grew() { for _ in $(seq 20); do [ "$(stat -c %s "$cow.1")" = 67108864 ] && return || sleep 1; done && false; }
for left in nothing zeros; do
	rm -f "$cow.1"
	case $left in nothing) : >"$cow.1" ;; zeros) dd if=/dev/zero of="$cow.1" bs=4k count=1 2>/dev/null ;; esac
	check "attach-after-$left" attach
	check "write-after-$left" dd if=/dev/urandom of=/dev/ublkb0 bs=1M count=50 conv=fsync 2>/dev/null
	check "grow-after-$left" grew
	check "detach-after-$left" cowroot detach --all
	rm "$cow" "$cow".[0-9]* && cowroot create "$cow" --base /tmp/base --max-size 200M >/dev/null
done
check unmount-stick umount /stick
check stick-is-clean stick_is_clean
