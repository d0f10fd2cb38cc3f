#!/bin/sh
# What cowtest.service runs in the Debian root: the check the kernel command line names, then what verb= says, or power off.
# shellcheck source=tests/vm/guest/lib.sh
. /usr/lib/cowtest/lib.sh
cowtest=$(sed -n 's/.*cowtest=\([^ ]*\).*/\1/p' /proc/cmdline)
# shellcheck source=/dev/null
. "/usr/lib/cowtest/$cowtest.sh"
report finished
verb=$(sed -n 's/.* verb=\([^ ]*\).*/\1/p' /proc/cmdline)
systemctl "${verb:-poweroff}" --no-block
