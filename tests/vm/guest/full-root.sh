# A cowfile that is full under a root: data is refused, nothing goes read-only, and room comes back.
# shellcheck shell=sh
check root-is-ublk root_is_ublk
mkdir /fill
said=
for n in $(seq 60); do
	said=$(dd if=/dev/urandom of="/fill/$n" bs=64k count=64 conv=fsync 2>&1) || break
done
check data-is-refused sh -c "echo '$said' | grep -q 'No space'"
# What only changes metadata goes on, through much of the journal.
files() { for n in $(seq 200); do : >"/fill/$1-$n" || return 1; done; }
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
# Without fstrim only btrfs gives room back: it is mounted so that it discards at once.
check delete-some rm /fill/1 /fill/2
sync
check fstrim fstrim /
check small-file dd if=/dev/urandom of=/fill/small bs=1k count=1 conv=fsync
check delete-all rm -r /fill
sync
check fstrim-again fstrim /
check room-is-back [ "$(number used_bytes)" -lt 40000000 ]
check write-and-read-back write_and_read_back /tmp
check writable-to-the-end writable
