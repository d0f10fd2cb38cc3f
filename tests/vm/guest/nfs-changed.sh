# The image changes on the server: that is found, and from then on reads fail. None gives anything new.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/lib.sh
. /run/t/lib.sh
deed=$(sed -n 's/.*deed=\([^ ]*\).*/\1/p' /proc/cmdline)
exec 5</usr/bin/cowroot
# Through descriptors that are open: no path has to be looked up, only content read.
content() { echo 1 >/proc/sys/vm/drop_caches && sha256sum "/proc/$$/fd/$1" | cut -d ' ' -f 1; }
is_found() { cowroot status --json | grep -q '"health": "failed"'; }
fails() { ! dd if="/proc/$$/fd/5" of=/dev/null bs=64k 2>/dev/null; }
dd if=/dev/urandom of=/tmp/kept bs=64k count=4 2>/dev/null && sync
exec 6</tmp/kept
old=$(content 5) kept=$(content 6) new='' mixed=''
report before ok "$old"
printf 'COWROOT-HOST %s\n' "$deed" >/dev/ttyS1
begun=$(cut -d . -f 1 /proc/uptime) now=0
until is_found || [ "$((now - begun))" -gt 90 ]; do
	# One is found without a read.
	[ "$deed" = remove ] || new=$(content 5 2>/dev/null)
	[ "${new:-$old}" = "$old" ] || mixed="$mixed $new"
	sleep 1
	now=$(cut -d . -f 1 /proc/uptime)
done
check found-within-a-minute [ "$((now - begun))" -le 60 ]
check never-a-mixture [ -z "$mixed" ]
echo 1 >/proc/sys/vm/drop_caches
check reads-fail fails
check what-was-written-is-there [ "$(content 6)" = "$kept" ]
case $deed in change) says='was changed on' ;; *) says='was \(replaced\|removed\)' ;; esac
check status-says-why sh -c "cowroot status | grep -q '$says'"
kill -9 "$(number pid)"
sleep 5
check another-daemon [ "$(number count)" = 1 ]
check still-found is_found
echo 1 >/proc/sys/vm/drop_caches
check reads-still-fail fails
status_json failed
report finished
echo o >/proc/sysrq-trigger
sleep 60
