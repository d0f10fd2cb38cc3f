# init= was honoured.
# shellcheck shell=sh
. /usr/lib/cowtest/root.sh
check other-init [ "$init" = /sbin/other-init ]
