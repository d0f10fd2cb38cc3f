# A Debian on a full cowfile: deleting makes room, and it powers off while it is full.
# shellcheck shell=sh
check root-is-ublk [ "$(findmnt -no SOURCE /)" = /dev/ublkb0 ]
mkdir /fill
echo 'tty >/run/terminal' >/root/.bash_profile
fill() {
	for n in $(seq 60); do
		dd if=/dev/urandom of="/fill/$1-$n" bs=64k count=64 conv=fsync 2>/run/said || break
	done
	grep -q "No space" /run/said
}
check fills fill 1
status_json attention
# Without fstrim: the root is mounted so that it discards.
# shellcheck source=tests/vm/guest/room.sh
. /usr/lib/cowtest/room.sh
before=$(number used_bytes)
check deletes rm /fill/1-1 /fill/1-2
sync
check room-comes-back soon uses_less_than $((before - 4000000))
check full-again fill 2
check still-writable sh -c 'grep -q "^/dev/ublkb0 / [^ ]* rw" /proc/mounts && touch /root/touched'
# The console's getty logs root in through PAM; the shell that login starts says where it is.
rm -f /run/terminal
systemctl restart serial-getty@ttyS0
logged_in() { for _ in $(seq 40); do [ -s /run/terminal ] && return || sleep 1; done && false; }
check logs-in logged_in
