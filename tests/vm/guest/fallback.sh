# The stick is not there, and a session in RAM was asked for in that case: nobody is left in doubt.
# shellcheck shell=sh
check root-is-ublk root_is_ublk
check write-and-read-back write_and_read_back /tmp
status_json attention
check status-says sh -c 'cowroot status | grep -q "nothing that is written will be kept"'
check login-says grep -q "nothing that is written will be kept" /run/motd.d/cowroot /run/issue.d/cowroot.issue
