# A Debian on a full cowfile: one logs in, deletes and writes again, and it powers off while it is full.
# shellcheck shell=sh
check root-is-ublk [ "$(findmnt -no SOURCE /)" = /dev/ublkb0 ]
mkdir /fill
fill() {
	for n in $(seq 60); do
		dd if=/dev/urandom of="/fill/$1-$n" bs=64k count=64 conv=fsync 2>&1 || return
	done
}
check fills sh -c "echo '$(fill 1)' | grep -q 'No space'"
status_json attention
# What a person types. script gives login a terminal; PAM and logind see a session, no password is asked for.
printf '%s\n' 'loginctl --no-legend >/run/sessions' 'rm /fill/1-1 /fill/1-2' 'sync; sleep 2' \
	'dd if=/dev/urandom of=/root/letter bs=64k count=64 conv=fsync && touch /run/wrote' exit |
	timeout 60 script -qec 'login -f root' /dev/null >/run/said 2>&1
check logs-in grep -q root /run/sessions
check deletes-and-writes-again [ -e /run/wrote ]
check full-again sh -c "echo '$(fill 2)' | grep -q 'No space'"
check still-writable sh -c 'grep -q "^/dev/ublkb0 / [^ ]* rw" /proc/mounts && touch /root/touched'
