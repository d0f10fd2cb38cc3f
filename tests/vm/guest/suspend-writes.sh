# The machine sleeps while the root is written to: the kernel freezes file systems before processes.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/load.sh
. /usr/lib/cowtest/load.sh
check root-is-ublk root_is_ublk
# What the boot sets. How often the machine then sleeps is told, not asserted: without it 8 of 10 were seen,
# so ten successes prove little, and a read may always be in the way.
check file-systems-are-frozen grep -qx 1 /sys/power/freeze_filesystems
for n in 1 2; do load $n & done
sleeps 10
check no-read-or-write-failed unharmed
refused hibernation 'not permitted' sh -c 'echo disk >/sys/power/state'
status_json
