# A mounted device is not taken away under its file system.
# shellcheck shell=sh
cowroot attach --base /dev/vda --cow tmpfs:32M
mkdir -p /mnt
check mount mount -t ext4 /dev/ublkb0 /mnt
refused detach-refused ublkb0 cowroot detach /dev/ublkb0
check still-works write_and_read_back /mnt
refused detach-all-refused ublkb0 cowroot detach --all
check umount umount /mnt
check detach cowroot detach /dev/ublkb0
