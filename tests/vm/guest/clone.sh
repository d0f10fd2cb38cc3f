# The stick 2 becomes a copy of the stick 1 as it is now, which must never be written. Sourced.
# shellcheck shell=sh
two_sticks() { [ "$(cat /sys/block/sd*/size | grep -cv '^0$')" = 2 ]; }
one_stick() { ! two_sticks; }
sync
host copy 1 2
# The host does one thing after the other.
host put 2
soon two_sticks
host pull 2
soon one_stick
host sum 2
