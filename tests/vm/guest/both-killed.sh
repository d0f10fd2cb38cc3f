# Daemon and supervisor are killed under a mounted file system over a cowfile. Who uses it waits until the device is
# given up, and gets errors then; what was synced is there when it is attached again.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
# shellcheck source=tests/vm/guest/kill.sh
. /usr/lib/cowtest/kill.sh
check attach attach_store /dev/vda
mkdir /w && mount /dev/ublkb0 /w
dd if=/dev/urandom of=/w/kept bs=1M count=4 conv=fsync 2>/dev/null
sum=$(sha256sum </w/kept)
# A load that is under way, and the journal's commits with it.
while dd if=/dev/zero of=/w/load bs=64k count=16 conv=fsync; do :; done >/run/said 2>&1 &
sleep 1
kill -9 "$(number supervisor)" "$(number pid)"
sleep 2
check give-up timeout 30 cowroot detach 0
wait $!
check then-fails grep -qi "i/o error\|input/output error\|read-only" /run/said
check unmount timeout 30 umount -f /w
check none-left sh -c '[ ! -e /dev/ublkb0 ]'
check attach-again cowroot attach --base /dev/vda --cow "$cow"
check mount-again mount /dev/ublkb0 /w
check synced-is-there [ "$(sha256sum </w/kept)" = "$sum" ]
check unmount-again umount /w
check fsck tool e2fsck -fn /dev/ublkb0
check detach cowroot detach --all
