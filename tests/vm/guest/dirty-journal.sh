# The base's journal was replayed, into the cowfile.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/root.sh
. /usr/lib/cowtest/root.sh
check journal-replayed grep -q new /etc/journal-witness
