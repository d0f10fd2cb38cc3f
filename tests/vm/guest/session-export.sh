# A session leaves one cowfile as a file and comes into another, with what it stands on.
# shellcheck shell=sh
modprobe vfat
modprobe ext4
mkdir /stick /w
mount -t vfat /dev/vdb /stick
use() { cowroot attach --base /dev/vda --cow "$1" >/dev/null && mount /dev/ublkb0 /w; }
off() { umount /w && cowroot detach 0; }
check create cowroot create /stick/a.cow --base /dev/vda --max-size 64M
check attach use /stick/a.cow
dd if=/dev/urandom of=/w/one bs=64k count=32 2>/dev/null
off && cowroot session new /stick/a.cow --name second && use /stick/a.cow
dd if=/dev/zero of=/w/two bs=64k count=64 2>/dev/null
rm -r /w/bin/* && sums=$(cd /w && sha256sum one two && find . | sort | sha256sum)
off
check export cowroot session export /stick/a.cow -o /stick/work.cowx
refused not-over-another "left as it is" cowroot session export /stick/a.cow -o /stick/work.cowx
check create-other cowroot create /stick/b.cow --base /dev/vda --max-size 64M
check import cowroot session import /stick/b.cow /stick/work.cowx
check attach-other use /stick/b.cow
check all-is-there [ "$(cd /w && sha256sum one two && find . | sort | sha256sum)" = "$sums" ]
off
check whole cowroot check /stick/b.cow
dd if=/dev/urandom of=/tmp/other bs=1M count=8 2>/dev/null
check create-of-other-base cowroot create /stick/c.cow --base /tmp/other --max-size 32M
refused other-base "another base than this cowfile's" cowroot session import /stick/c.cow /stick/work.cowx
check unmount umount /stick
