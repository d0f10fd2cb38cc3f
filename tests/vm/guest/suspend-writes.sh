# The machine sleeps while the root is written to: the kernel freezes file systems before processes.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/load.sh
. /usr/lib/cowtest/load.sh
check root-is-ublk root_is_ublk
for n in 1 2; do load $n & done
sleeps 10
check sleeps-each-time [ "$slept" = 10 ]
check no-read-or-write-failed unharmed
refused hibernation 'not permitted' sh -c 'echo disk >/sys/power/state'
status_json
