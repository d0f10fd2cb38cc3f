# A session begun while its device is written to, again and again: each before it stays as it was when it was sealed.
# shellcheck shell=sh disable=SC2119,SC2120
modprobe vfat
modprobe ext4
mkdir /stick /w
mount -t vfat /dev/vdb /stick
cow=/stick/a.cow
on() { cowroot attach --base /dev/vda --cow "$cow" "$@" >/dev/null && mount /dev/ublkb0 /w; }
off() { umount /w && cowroot detach 0; }
check create cowroot create "$cow" --base /dev/vda --max-size 256M
check attach on
while [ ! -e /run/enough ]; do dd if=/dev/urandom of=/w/load bs=16k count=64 conv=fsync 2>/dev/null; done &
for number in 1 2 3 4 5; do
	echo "$number" >/w/number && sync
	check "begin-$number" cowroot session new /dev/ublkb0 --name "s$number"
	[ "$number" = 3 ] && kill -9 "$(number pid)" && sleep 1
done
check status-names-it sh -c 'cowroot status --json | grep -q "\"session\": \"s5\""'
check list-in-use sh -c "cowroot session list /dev/ublkb0 | grep -q 's5 on s4: takes the writes'"
check renamed cowroot session rename /dev/ublkb0 s5 five
check status-names-five sh -c 'cowroot status --json | grep -q "\"session\": \"five\""'
refused no-such "there is no session 's5'" cowroot session rename /dev/ublkb0 s5 six
check renamed-another cowroot session rename /dev/ublkb0 s1 one
refused name-taken "there is a session 's2' already" cowroot session new /dev/ublkb0 --name s2
touch /run/enough
wait
check detach off
check five-on-s4 sh -c "cowroot session list '$cow' | grep -q 'five on s4'"
# What was sealed is as a power cut leaves it: its journal is replayed into RAM.
sealed() {
	cowroot session new "$cow" --on "$1" --name "on-$1" >/dev/null && on --session throwaway && [ "$(cat /w/number)" = "$2" ] && off
}
check main-has-1 sealed main 1
check s3-has-4 sealed s3 4
check whole cowroot check "$cow"
check unmount umount /stick
