# Discard gives RAM back, and zeros take none.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/room.sh
. /usr/lib/cowtest/room.sh
dd if=/dev/urandom of=/tmp/base bs=1M count=64 2>/dev/null
cowroot attach --base /tmp/base --cow tmpfs:64M
dd if=/dev/urandom of=/dev/ublkb0 bs=1M count=40 oflag=direct conv=notrunc 2>/dev/null
full=$(number used_bytes)
check writes-take-ram [ "$full" -ge 41943040 ]
check discard blkdiscard -o 0 -l 33554432 /dev/ublkb0
check ram-comes-back soon uses_less_than 9437185
dd if=/dev/ublkb0 of=/tmp/zeros bs=1M count=32 iflag=direct 2>/dev/null
check reads-as-zeros [ "$(sha256sum </tmp/zeros)" = "$(dd if=/dev/zero bs=1M count=32 2>/dev/null | sha256sum)" ]
dd if=/dev/zero of=/dev/ublkb0 bs=1M seek=48 count=8 oflag=direct conv=notrunc 2>/dev/null
check zeros-take-none soon uses_less_than 9437185
status_json
check detach cowroot detach --all
