# The server is away for a minute while the root is read, or is there and exports nothing for a while (deed=late):
# that costs a pause, and no error.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/lib.sh
. /run/t/lib.sh
ask() { printf 'COWROOT-HOST %s\n' "$*" >/dev/ttyS1; }
stop='stop' start='start' pause=55
! grep -q deed=late /proc/cmdline || stop=unexport start=export pause=7
exec 5</usr/bin/cowroot
# Through a descriptor that is open: no path has to be looked up, only content read.
content() { echo 1 >/proc/sys/vm/drop_caches && sha256sum <"/proc/$$/fd/5"; }
read_on() { while :; do content >>/run/sums 2>&1 || echo failed >>/run/sums; done; }
count() { wc -l </run/sums; }
old=$(content)
read_on &
sleep 5
check reads [ "$(count)" -gt 1 ]
ask $stop
sleep 5
before=$(count)
sleep $pause
check nothing-is-read-meanwhile [ "$(count)" -le $((before + 1)) ]
check the-daemon-answers cowroot status
before=$(count)
ask $start
for _ in $(seq 150); do
	[ "$(count)" -gt $((before + 2)) ] && break
	sleep 1
done
check reads-go-on [ "$(count)" -gt $((before + 2)) ]
check all-is-as-it-was [ "$(sort -u /run/sums)" = "$old" ]
check no-error sh -c '! dmesg | grep -i "i/o error"'
check write-and-read-back write_and_read_back /tmp
status_json ok
