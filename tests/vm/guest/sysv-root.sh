#!/bin/sh
# What sysvinit's inittab runs: the check the kernel command line names, then a shutdown by its own scripts, of the kind that verb= says.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# shellcheck source=tests/vm/guest/lib.sh
. /usr/lib/cowtest/lib.sh
cowtest=$(sed -n 's/.*cowtest=\([^ ]*\).*/\1/p' /proc/cmdline)
# shellcheck source=/dev/null
. "/usr/lib/cowtest/$cowtest.sh"
check init-is-sysvinit sh -c 'grep -qx init /proc/1/comm && [ ! -d /run/systemd ]'
# As the package does it: who comes before whom is told by the scripts' headers.
check enabled update-rc.d cowroot-shutdown defaults
# killall5 ends who is left; what a last script says may end with startpar, which shows it.
setsid sh -c 'trap "echo a bystander is terminated >/dev/kmsg; exit" TERM; while :; do sleep 1; done' </dev/null >/dev/null 2>&1 &
report finished
case $(sed -n 's/.* verb=\([^ ]*\).*/\1/p' /proc/cmdline) in
reboot) shutdown -r now ;;
halt) shutdown -h -H now ;;
*) shutdown -h -P now ;;
esac
