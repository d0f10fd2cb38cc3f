# What checks of room in the cowfile share; sourced.
# shellcheck shell=sh
# soon COMMAND...: the command succeeds within some seconds. ext4 and XFS discard behind a commit.
soon() { for _ in 1 2 3 4 5; do "$@" && return || sleep 1; done && false; }
uses_less_than() { [ "$(number used_bytes)" -lt "$1" ]; }
