# How long it takes from `cowroot attach` to a device, by disk; read-only, so that each time is like the first.
# shellcheck shell=sh
truncate -s 64G /tmp/base
modprobe ublk_drv
now() { sed 's/\([0-9]*\)\.\([0-9]*\) .*/\1\2/' /proc/uptime; }
for round in 1 2 3; do
	before=$(now)
	check "attach-tmpfs-$round" cowroot attach --base /tmp/base --cow tmpfs:16M
	report "a cowfile in RAM round $round: $((($(now) - before) * 10)) ms"
	cowroot detach --all
done
for disk in /dev/vda /dev/vdb /dev/vdc; do
	for round in 1 2 3; do
		echo 3 >/proc/sys/vm/drop_caches
		before=$(now)
		check "attach-$disk-$round" cowroot attach --base /tmp/base --cow "$disk" --read-only
		report "$disk round $round: $((($(now) - before) * 10)) ms"
		cowroot detach --all
	done
	before=$(now)
	check "attach-$disk-writable" cowroot attach --base /tmp/base --cow "$disk"
	report "$disk writable: $((($(now) - before) * 10)) ms"
	dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 conv=fsync 2>/dev/null
	report "$disk first write and flush done: $((($(now) - before) * 10)) ms"
	cowroot detach --all
done
