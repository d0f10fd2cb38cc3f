# A disk as base is nobody else's while it serves, shared by sessions, and let go at the end.
# shellcheck shell=sh
mkdir -p /mnt
# A copy: mounting it writable changes it.
cat /dev/vda >/tmp/disk
losetup /dev/loop0 /tmp/disk
mount -t ext4 /dev/loop0 /mnt
refused mounted-writable-is-refused 'mounted read-write' cowroot attach --base /dev/loop0 --cow tmpfs:16M
umount /mnt
check attach cowroot attach --base /dev/loop0 --cow tmpfs:16M --id 0
check second-session cowroot attach --base /dev/loop0 --cow tmpfs:16M --id 1
refused base-cannot-be-mounted 'busy' mount -t ext4 /dev/loop0 /mnt
status_json
kill -TERM "$(number pid)"
sleep 3
check sigterm-detaches-what-nobody-uses [ ! -e /dev/ublkb0 ]
check detach cowroot detach --all
check let-go mount -t ext4 -o ro,noload /dev/loop0 /mnt
check mounted-read-only-is-fine cowroot attach --base /dev/loop0 --cow tmpfs:16M
check detach-again cowroot detach --all
