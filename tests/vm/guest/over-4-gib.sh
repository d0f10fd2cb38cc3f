# A cowfile of more than a file of FAT32 can hold: it lies in several, all is there, and the stick's fsck agrees.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
check mount-stick mount_stick
truncate -s 5G /tmp/base
check create cowroot create "$cow" --base /tmp/base --max-size 5500M
attach() { cowroot attach --base /tmp/base --cow "$cow"; }
check attach attach
# Never twice the same bytes, and quick to make: a counter in front of each chunk of noise.
dd if=/dev/urandom of=/tmp/noise bs=1M count=16 2>/dev/null
fill() { for at in $(seq 0 16 4400); do dd if=/tmp/noise of=/dev/ublkb0 bs=1M seek="$at" conv=notrunc 2>/dev/null || return 1; done && sync; }
check fill fill
split() { stat -c %s "$cow"* | awk '{ sum += $1; large += $1 >= 4294967296 } END { exit large || NR < 2 || sum <= 4294967296 }'; }
check split split
check detach cowroot detach 0
check attach-again attach
same() { for at in 0 2048 4096 4400; do dd if=/dev/ublkb0 bs=1M skip="$at" count=16 2>/dev/null | cmp - /tmp/noise || return 1; done; }
check same same
check detach-again cowroot detach 0
check unmount umount /stick
check stick-is-clean stick_is_clean
