# One device over a file: made, written, shown, stopped.
# shellcheck shell=sh
dd if=/dev/urandom of=/tmp/base bs=1M count=8 2>/dev/null
sum=$(sha256sum </tmp/base)
device=$(cowroot attach --base /tmp/base --cow tmpfs:16M)
check prints-the-device [ "$device" = /dev/ublkb0 ]
check node-is-there [ -b /dev/ublkb0 ]
check reads-as-base [ "$(sha256sum </dev/ublkb0)" = "$sum" ]
status_json
# CAP_SYS_ADMIN, CAP_IPC_LOCK, CAP_DAC_OVERRIDE; and a filter of system calls.
check confined sh -c "grep -q '^CapEff:.*0000000000204002' /proc/$(number pid)/status && grep -q '^Seccomp:.*2' /proc/$(number pid)/status"
dd if=/dev/zero of=/dev/ublkb0 bs=1M seek=2 count=2 conv=notrunc,fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
check written [ "$(dd if=/dev/ublkb0 bs=1M skip=2 count=2 2>/dev/null | sha256sum)" = "$(dd if=/dev/zero bs=1M count=2 2>/dev/null | sha256sum)" ]
check base-unchanged [ "$(sha256sum </tmp/base)" = "$sum" ]
check detach cowroot detach /dev/ublkb0
check node-is-gone [ ! -e /dev/ublkb0 ]
check none-left sh -c '! cowroot status | grep -q ublkb0'
device=$(cowroot attach --base /tmp/base --cow tmpfs:16M --id 5 --read-only)
check chosen-number [ "$device" = /dev/ublkb5 ]
check read-only [ "$(cat /sys/block/ublkb5/ro)" = 1 ]
check detach-by-number cowroot detach 5
device=$(cowroot attach --base /tmp/base --cow tmpfs:16M --size 12M)
check larger [ "$(cat /sys/block/ublkb0/size)" = $((12 * 2048)) ]
cowroot status --watch >/tmp/watched 2>&1 &
watcher=$!
until [ -s /tmp/watched ]; do sleep 0.1; done
check detach-all cowroot detach --all
wait $watcher
check watch-ends [ $? = 0 ]
check watch-tells sh -c 'grep -q "ublkb0: gone" /tmp/watched && grep -q "serves no device" /tmp/watched'
# Only then does it hold nothing of a medium any more.
check daemon-has-ended sh -c '! grep -qx cowroot /proc/[0-9]*/comm'
