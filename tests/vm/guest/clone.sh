# The stick 2 becomes a copy of the stick 1 as it is now, which must never be written. Sourced.
# shellcheck shell=sh
sync
host copy 1 2
# The host does one thing after the other.
host put 2
soon sticks 2
host pull 2
soon sticks 1
host sum 2
