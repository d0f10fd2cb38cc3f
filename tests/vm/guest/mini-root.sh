#!/bin/sh
# /sbin/init of the busybox root: run the check the kernel command line names, then power off.
export PATH=/bin:/sbin:/usr/bin
# shellcheck source=tests/vm/guest/lib.sh
. /usr/lib/cowtest/lib.sh
export started_as="$0"
cowtest=$(sed -n 's/.*cowtest=\([^ ]*\).*/\1/p' /proc/cmdline)
# shellcheck source=/dev/null
. "/usr/lib/cowtest/$cowtest.sh"
report finished
sync
mount -o remount,ro / 2>/dev/null
poweroff -f
