# Without our words our hooks leave the boot alone: the root that root= names.
# shellcheck shell=sh
check root-is-the-other grep -q '^/dev/vda / ' /proc/mounts
check no-device sh -c '! [ -e /dev/ublkb0 ]'
check no-shutdown sh -c '! [ -e /run/initramfs/.shutdown.part ] && ! cmp -s /run/initramfs/shutdown /usr/bin/cowroot'
