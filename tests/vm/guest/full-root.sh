# A cowfile that is full under a root: data is refused, nothing goes read-only, and room comes back.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/room.sh
. /usr/lib/cowtest/room.sh
check root-is-ublk root_is_ublk
echo 'root::0:0:root:/root:/bin/sh' >/etc/passwd
mkdir /fill /root
cp /usr/lib/cowtest/full-login.sh /root/.profile
said=
for n in $(seq 60); do
	said=$(dd if=/dev/urandom of="/fill/$n" bs=64k count=64 conv=fsync 2>&1) || break
done
check data-is-refused sh -c "echo '$said' | grep -q 'No space'"
# What only changes metadata goes on, through much of the journal.
files() { for n in $(seq 200); do true >"/fill/$1-$n" || return 1; done; }
for round in $(seq 20); do
	files "$round" || break
	sync
done
check metadata-goes-on [ "$round" = 20 ]
writable() {
	grep -q '^/dev/ublkb0 / [^ ]* rw' /proc/mounts &&
		! dmesg | grep -iE 'remounting filesystem|abort|shut(ting)? ?down|forced readonly|corrupt'
}
check still-writable writable
check status-tells sh -c 'cowroot status | grep -q "% full"'
status_json attention
# A person logs in, deletes and writes: /root/.profile is what they type. No password is asked for.
login -f root </dev/ttyS0 >/dev/ttyS0 2>&1
check logs-in [ -e /run/logged-in ]
before=$(number used_bytes)
check delete-all rm -r /fill
sync
check room-is-back soon uses_less_than $((before - 12000000))
check write-and-read-back write_and_read_back /tmp
check fstrim fstrim /
check writable-to-the-end writable
