# A stick at work: a cowfile on it, a load on the device, a counter, and behind it the marker.
# shellcheck shell=sh
word() { sed -n "s/.*$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
on=$(word powercut) cow=/stick/root.cow
mkdir /stick /u
if [ "$on" = raw ]; then cow=/dev/vda1; else check stick mount -t "$on" /dev/vda1 /stick; fi
# What was synced before is what the stick must show from now on.
mark() { printf '%015d\n' "$1" | dd of=/dev/vda2 bs=512 conv=sync,fsync,notrunc 2>/dev/null; }
begin() { cowroot attach --base /dev/vdb --cow $cow --id 0 && mount -t ext4 -o discard /dev/ublkb0 /u; }
end() { umount /u && cowroot detach 0; }
# Small files of the cowfile, so that there are siblings.
files=$([ "$on" = raw ] || echo --file-size 20M)
# shellcheck disable=SC2086 # none or two words
check create cowroot create $cow --base /dev/vdb $files
mark 0
check attach begin
dd if=/dev/urandom of=/tmp/random bs=1M count=2 2>/dev/null
# What one round must do.
write() {
	yes $k | head -c 30000 | dd of=/u/w/$((k % 4)) bs=32k iflag=fullblock conv=fsync &&
		{ dd if=/tmp/random of=/u/load$((k % 19)) bs=64k skip=$((k % 7)) count=$((k % 20 + 1)) || true; } &&
		printf '%015d\n' $k | dd of=/u/witness conv=notrunc,fsync
}
rounds=$(word rounds)
k=0
while [ $k -lt "$rounds" ]; do
	k=$((k + 1))
	rm -f /u/w/$((k % 4)) /u/load$((k * 7 % 19))
	write >/tmp/said 2>&1 || { report "round-$k" FAILED "$( (cat /tmp/said && df -k && cowroot status) | tr '\n' ' ')" && break; }
	mark $k
	case $((k % 12)) in
	5) check detach end && check attach-again begin ;;
	2 | 10) kill -9 "$(number pid)" ;;
	esac
done
check all-rounds [ $k = "$rounds" ]
