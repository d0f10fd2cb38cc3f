# A daemon that is killed again and again over a cowfile that is full, again and again: what a sync said is there is
# there, what was refused was refused with "no space", and the file system stays whole.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
# shellcheck source=tests/vm/guest/kill.sh
. /usr/lib/cowtest/kill.sh
check attach attach_store /dev/vda 64M
true >/run/full && mkdir /w && check mount mount -o discard /dev/ublkb0 /w && mkdir /w/f
# fills_and_empties: files until one is refused, then each that was accepted must read as it was; then half of them go.
fills_and_empties() {
	for n in $(seq 60); do
		[ ! -e /run/enough ] || return 0
		dd if=/dev/urandom of=/run/new bs=256k count=8 2>/dev/null
		if said=$(dd if=/run/new of="/w/f/$n" bs=64k conv=fsync 2>&1); then
			sha256sum </run/new >"/run/sum-$n"
		else
			rm -f "/w/f/$n" "/run/sum-$n"
			case $said in *"No space"*) break ;; *) echo "$said" && return 1 ;; esac
		fi
	done
	echo x >>/run/full
	for sum in /run/sum-*; do
		[ "$(sha256sum <"/w/f/${sum#/run/sum-}")" = "$(cat "$sum")" ] || { echo "$sum" && return 1; }
	done
	for n in $(seq 1 2 60); do rm -f "/w/f/$n" "/run/sum-$n"; done
	sync
}
while [ ! -e /run/enough ] && fills_and_empties; do :; done >/run/said 2>&1 || true &
kill_often /nothing
# A busy machine fills it more slowly, and has more kills.
while [ "$(wc -l </run/full)" -lt 2 ] && [ "$killed" -lt $((kills * 10)) ]; do kill_often /nothing $((killed + 20)); done
true >/run/enough
wait
check nothing-else-was-said [ ! -s /run/said ]
check was-full-often [ "$(wc -l </run/full)" -ge 2 ]
check unmount umount /w
check fsck tool e2fsck -fn /dev/ublkb0
report_pauses
check detach cowroot detach --all
