# A machine whose cowfile may take more than is free: it works, and its status says so.
# shellcheck shell=sh
check root-is-ublk root_is_ublk
check write-and-read-back write_and_read_back /tmp
status_json attention
