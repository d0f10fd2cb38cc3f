# A Debian whose cowfile's stick is pulled out and put back: what systemd and udev make of it does no harm.
# shellcheck shell=sh
check multi-user systemctl is-active multi-user.target
# shellcheck source=tests/vm/guest/lost-root.sh
. /usr/lib/cowtest/lost-root.sh
check no-failed-units [ -z "$(systemctl --failed --plain --no-legend)" ]
systemctl list-units --all '*cowroot*' --plain --no-legend >/dev/ttyS1
check logs-in-anew systemctl restart serial-getty@ttyS0
