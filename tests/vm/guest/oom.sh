# A root on a machine that runs out of memory, with dirty pages of its own: the daemon is never chosen, nothing hangs,
# and a full cowfile says that it is full.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/room.sh
. /usr/lib/cowtest/room.sh
check root-is-ublk root_is_ublk
pid=$(number pid) supervisor=$(number supervisor)
mkdir /fill
writes() { while [ ! -e /run/enough ]; do dd if=/dev/urandom of="/fill/$1" bs=1M count=24 conv=notrunc 2>/dev/null; done; }
# Together they take more than there is, in pages that only they have.
mib=$(sed -n 's/MemTotal: *\([0-9]*\)... kB/\1/p' /proc/meminfo)
hogs() { while [ ! -e /run/enough ]; do dd if=/dev/zero of=/dev/null bs=$((mib * 2 / 5))M count=9 2>/dev/null; done; }
for n in 1 2; do writes "$n" & done
for n in 1 2 3 4; do hogs & done
sleep 20
true >/run/enough
wait
check ran-out sh -c 'dmesg | grep -q "Out of memory: Killed"'
check never-chosen sh -c '! dmesg | grep "Out of memory: Killed process [0-9]* (cowroot\|Kernel panic"'
check same-processes [ "$(number pid)$(number supervisor)$(number count)" = "$pid${supervisor}0" ]
check no-request-failed [ "$(number failed_requests)" = 0 ]
check write-and-read-back write_and_read_back /tmp
# Full, with all the RAM it may take: an error for who writes.
fills() { for n in $(seq 400); do dd if=/dev/urandom of="/fill/more-$n" bs=1M count=4 conv=fsync || return 1; done; }
said=$(fills 2>&1)
check says-no-space sh -c "echo '$said' | grep -q 'No space'"
check lives [ "$(number pid)$(number count)" = "${pid}0" ]
rm -r /fill
sync
check room-is-back soon uses_less_than 90000000
check write-and-read-back-again write_and_read_back /tmp
