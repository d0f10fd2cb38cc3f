# What checks of room in the cowfile share; sourced.
# shellcheck shell=sh
# soon COMMAND...: the command succeeds within some seconds. ext4 and XFS discard behind a commit, and
# XFS frees what rm removed a moment after it: the sync that follows rm can come too early for it.
soon() { for _ in 1 2 3 4 5; do sync && "$@" && return || sleep 1; done && false; }
uses_less_than() { [ "$(number used_bytes)" -lt "$1" ]; }
