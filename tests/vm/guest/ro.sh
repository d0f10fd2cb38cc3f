# ro on the command line: mounted so, and writable after a remount.
# shellcheck shell=sh
check mounted-ro grep -q '^/dev/[^ ]* / ext4 ro' /proc/mounts
check refuses-writes sh -c '! touch /tmp/x'
check remounts mount -o remount,rw /
check write-and-read-back write_and_read_back /tmp
status_json
