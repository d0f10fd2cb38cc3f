# A live Debian does what a Debian does.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/room.sh
. /usr/lib/cowtest/room.sh
check root-is-ublk [ "$(findmnt -no SOURCE /)" = /dev/ublkb0 ]
check multi-user systemctl is-active multi-user.target
check no-failed-units [ -z "$(systemctl --failed --plain --no-legend)" ]
check write-and-read-back write_and_read_back /root
check dpkg-installs dpkg -i /usr/lib/cowtest/hello.deb
check package-is-there grep -q hello /usr/share/cowtest-hello/hello
check status cowroot status
status_json
# What was written and removed again gives its RAM back.
before=$(number used_bytes)
dd if=/dev/urandom of=/root/big bs=1M count=64 2>/dev/null
sync
full=$(number used_bytes)
rm /root/big
sync
check fstrim fstrim /
check discard-returns-ram soon uses_less_than $((before + 8000000))
check writes-take-ram [ "$full" -gt $((before + 60000000)) ]
check daemon-is-spared grep -aq '^@' /proc/[0-9]*/cmdline
# The tool on a running system: a second device, with its base on another file system.
mkdir /mnt/base /mnt/device
mount -t tmpfs base /mnt/base
truncate -s 32M /mnt/base/disk
mke2fs -q /mnt/base/disk
device=$(cowroot attach --base /mnt/base/disk --cow tmpfs:8M)
check attached mount "$device" /mnt/device
check attached-writes write_and_read_back /mnt/device
refused base-is-held busy umount /mnt/base
refused mounted-is-not-detached 'in use' cowroot detach "$device"
check unmounted umount /mnt/device
check detached cowroot detach "$device"
check base-is-let-go umount /mnt/base
