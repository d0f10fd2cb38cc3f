# rootflags= reached the mount.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/root.sh
. /usr/lib/cowtest/root.sh
check noatime grep -q '^/dev/[^ ]* / ext4 rw[^ ]*noatime' /proc/mounts
check commit grep -q '^/dev/[^ ]* / ext4 [^ ]*commit=7' /proc/mounts
