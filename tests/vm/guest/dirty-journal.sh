# The base's journal was replayed, into the cowfile.
# shellcheck shell=sh
. /usr/lib/cowtest/root.sh
check journal-replayed grep -q new /etc/journal-witness
