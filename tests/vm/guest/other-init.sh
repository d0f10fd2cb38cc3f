# init= was honoured.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/root.sh
. /usr/lib/cowtest/root.sh
check other-init [ "${started_as:-}" = /sbin/other-init ]
