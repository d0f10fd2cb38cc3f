# What a person types who logs in on a full disk; the shell that login starts reads it as its .profile.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/lib.sh
. /usr/lib/cowtest/lib.sh
# shellcheck source=tests/vm/guest/room.sh
. /usr/lib/cowtest/room.sh
: >/run/logged-in
check at-a-terminal tty -s
check shell-writes-history sh -c "echo 'rm /fill/1' >>/root/.history"
refused no-room-yet 'No space' dd if=/dev/urandom of=/root/letter bs=64k count=64 conv=fsync
before=$(number used_bytes)
check delete-some rm /fill/1 /fill/2 /fill/3 /root/letter
sync
# Without fstrim: the root is mounted so that it discards.
check room-comes-back soon uses_less_than $((before - 8000000))
check writes-again soon dd if=/dev/urandom of=/root/letter bs=64k count=64 conv=fsync
check fstrim fstrim /
exit
