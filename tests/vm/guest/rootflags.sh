# rootflags= reached the mount.
# shellcheck shell=sh
. /usr/lib/cowtest/root.sh
check noatime grep -q '^/dev/[^ ]* / ext4 rw[^ ]*noatime' /proc/mounts
check commit grep -q '^/dev/[^ ]* / ext4 [^ ]*commit=7' /proc/mounts
