# The root is ours, writable, and known to status.
# shellcheck shell=sh
check root-is-ublk root_is_ublk
check write-and-read-back write_and_read_back /tmp
check initramfs-freed sh -c '! grep -q "^rootfs / rootfs" /proc/mounts || [ ! -e /init ]'
check status cowroot status
status_json
