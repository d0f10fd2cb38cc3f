# A stick that is pulled out and not put back in time: errors, and the log says up to when what was written is safe.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/pull.sh
. /usr/lib/cowtest/pull.sh
soon [ -b /dev/sda ]
medium=/dev/sda
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
truncate -s 64M /tmp/base
soon [ -b "$cow" ] || mount_stick
check create cowroot create "$cow" --base /tmp/base
check attach cowroot attach --base /tmp/base --cow "$cow" --lost 5
dd if=/dev/urandom of=/tmp/new bs=64k count=16 2>/dev/null
check write dd if=/tmp/new of=/dev/ublkb0 bs=64k conv=fsync
host pull 1
sleep 1
(dd if=/dev/zero of=/dev/ublkb0 bs=64k count=1 seek=100 conv=fsync 2>/tmp/said || : >/tmp/ended) &
check waits soon health waiting
check says-so sh -c 'cowroot status | grep "put it back within"'
refused is-not-detached "put it back" cowroot detach 0
check fails soon [ -e /tmp/ended ]
check an-error grep -q "rror" /tmp/said
check says-up-to-when said "fails from now on.*not put back within 5 s.*written up to 20.*UTC is in the cowfile"
status_json failed
check detach cowroot detach --all
host put 1
umount /stick 2>/dev/null
found="" && medium=$(soon name)
case $stick in partition) cow=${medium}1 && soon [ -b "$cow" ] ;; *) mount_stick ;; esac
check attach-again cowroot attach --base /tmp/base --cow "$cow"
check what-was-synced-is-there cmp -n 1048576 /tmp/new /dev/ublkb0
check detach-again cowroot detach --all
