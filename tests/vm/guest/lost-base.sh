# A base on a medium of its own, under a session in RAM, pulled out and put back: whoever reads waits, and reads the same.
# On XFS, where the old mount with the same UUID is there still; and a whole stick that has no UUID, known by its content.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/pull.sh
. /usr/lib/cowtest/pull.sh
soon [ -b /dev/sda ]
medium=/dev/sda
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
# shellcheck source=tests/vm/guest/reads.sh
. /usr/lib/cowtest/reads.sh
mount_stick
dd if=/dev/urandom of=/stick/base bs=1M count=8 conv=fsync 2>/dev/null
sum=$(sha256sum </stick/base)
# A base is looked for as a boot does it, without the journal.
umount /stick && mount_stick
check attach cowroot attach --base /stick/base --cow tmpfs:8M --size 16M
reads &
pulled_and_put 1 xfs
pulled_and_put 1 xfs-again
kill -9 "$(number pid)"
pulled_and_put 1 xfs-while-taken-over
: >/tmp/enough
wait
check detach cowroot detach --all
umount /stick
host pull 1 && soon sticks 0 && host put 2 && found="" && medium=$(soon name)
dd if=/dev/urandom of="$medium" bs=400 count=1 conv=notrunc,fsync 2>/dev/null
sum=$(head -c 8388608 "$medium" | sha256sum) && rm /tmp/enough
host sum 3
check attach-whole cowroot attach --base "$medium" --cow tmpfs:8M
reads &
pulled_and_put 2 whole
: >/tmp/enough
wait
check nothing-wrong [ ! -e /tmp/wrong ]
check no-request-failed [ "$(number failed_requests)" = 0 ]
check detach-whole cowroot detach --all
