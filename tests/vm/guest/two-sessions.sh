# Two sessions on one base: neither sees what the other wrote.
# shellcheck shell=sh
dd if=/dev/urandom of=/tmp/base bs=1M count=4 2>/dev/null
sum=$(sha256sum </tmp/base)
cowroot attach --base /tmp/base --cow tmpfs:8M --id 0
cowroot attach --base /tmp/base --cow tmpfs:8M --id 1
echo from-0 | dd of=/dev/ublkb0 bs=512 seek=9 conv=notrunc,fsync 2>/dev/null
echo from-1 | dd of=/dev/ublkb1 bs=512 seek=9 conv=notrunc,fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
check first-keeps-its-own [ "$(dd if=/dev/ublkb0 bs=512 skip=9 count=1 2>/dev/null | head -n 1)" = from-0 ]
check second-keeps-its-own [ "$(dd if=/dev/ublkb1 bs=512 skip=9 count=1 2>/dev/null | head -n 1)" = from-1 ]
check base-unchanged [ "$(sha256sum </tmp/base)" = "$sum" ]
check detach-all cowroot detach --all
