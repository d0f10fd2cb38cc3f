# A card that a person has mounted, taken out of its reader and put back: what the kernel keeps of it stands in the way of what
# is there now, and whoever has it mounted is told. Once out of the way, the card may also come back before anybody missed it.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/pull.sh
. /usr/lib/cowtest/pull.sh
soon [ -b /dev/sda1 ]
mkdir -p /stick
check mount soon mount -t ext4 /dev/sda1 /stick
truncate -s 16M /base
check create cowroot create /stick/a.cow --base /base
check attach cowroot attach --base /base --cow /stick/a.cow
dd if=/dev/urandom of=/new bs=64k count=16 2>/dev/null
written() { dd if=/new of=/dev/ublkb1 bs=64k conv=fsync 2>/dev/null; }
check write written
pulled 1
(written && : >/written) &
check waits soon health waiting
put_back 1
check says-what-is-in-the-way soon said "what was taken out of '/dev/sda1' is still mounted or open: close and unmount it"
check status-says-so sh -c "cowroot status | grep 'unmount it'"
umount -l /stick
check goes-on soon [ -e /written ]
pulled 1
put_back 1
# Time for the host to do both.
sleep 3
check goes-on-at-once written
check is-opened-anew [ "$(number count 2)" = 2 ]
check no-request-failed [ "$(number failed_requests 2)" = 0 ]
check no-error sh -c '! dmesg | grep "error.*ublkb1"'
check same cmp -n 1048576 /new /dev/ublkb1
check detach cowroot detach 1
