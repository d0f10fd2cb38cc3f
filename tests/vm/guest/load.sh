# What checks of sleep share: a load on the root, and attempts to sleep. Sourced.
# shellcheck shell=sh
mkdir /run/failed
dd if=/dev/urandom of=/run/random bs=64k count=16 2>/dev/null
# load N [cold]: write and read back on and on; cold, so that reads reach the device.
load() {
	while [ ! -e /run/enough ]; do
		dd if=/run/random of="/load$1" bs=64k conv=fsync 2>/dev/null || : >"/run/failed/write$1"
		[ -z "$2" ] || echo 3 >/proc/sys/vm/drop_caches
		cmp -s /run/random "/load$1" || : >"/run/failed/read$1"
		: >/run/done-one
	done
}
goes_on() {
	rm -f /run/done-one
	for _ in $(seq 100); do [ -e /run/done-one ] && return || usleep 100000; done && false
}
# Only the freezer is tried, and not for long.
echo freezer >/sys/power/pm_test
echo 0 >/sys/module/suspend/parameters/pm_test_delay
echo 2000 >/sys/power/pm_freeze_timeout
freeze() { :; }
# sleeps ROUNDS: how often of these the machine slept, in $slept. The load goes on each time.
sleeps() {
	slept=0
	for round in $(seq "$1"); do
		freeze 1
		if said=$(sh -c 'echo mem >/sys/power/state' 2>&1); then
			slept=$((slept + 1))
		else
			case $said in *busy*) ;; *) echo "$said" >"/run/failed/other$round" ;; esac
		fi
		freeze 0
		goes_on || : >"/run/failed/idle$round"
	done
	report slept "$slept of $1 times"
}
# Ends the load: no read or write failed, and nobody stood still.
unharmed() { : >/run/enough && wait && ls /run/failed && [ -z "$(ls /run/failed)" ]; }
