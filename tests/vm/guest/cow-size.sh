# The cowfile has the size that was asked for.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/root.sh
. /usr/lib/cowtest/root.sh
capacity=$(number capacity_bytes)
check capacity [ "$capacity" -gt 40000000 ]
check capped [ "$capacity" -le 50331648 ]
