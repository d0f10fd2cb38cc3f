# rootflags= reached the mount.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/root.sh
. /usr/lib/cowtest/root.sh
# shellcheck source=tests/vm/guest/room.sh
. /usr/lib/cowtest/room.sh
check noatime grep -q '^/dev/[^ ]* / ext4 rw[^ ]*noatime' /proc/mounts
check commit grep -q '^/dev/[^ ]* / ext4 [^ ]*commit=7' /proc/mounts
# It stays as it is said, also where the boot would add something: only fstrim gives RAM back.
check no-discard sh -c '! grep -q "^/dev/[^ ]* / ext4 [^ ]*,discard" /proc/mounts'
dd if=/dev/urandom of=/big bs=64k count=128 conv=fsync 2>/dev/null
before=$(number used_bytes)
rm /big
sync
sleep 2
check ram-is-kept [ "$(number used_bytes)" -gt $((before - 1000000)) ]
check fstrim fstrim /
check ram-comes-back soon uses_less_than $((before - 7000000))
