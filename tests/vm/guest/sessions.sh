# Sessions in one cowfile: each on the one before, one in RAM that leaves no trace, one rolled back.
# shellcheck shell=sh disable=SC2119,SC2120
modprobe vfat
modprobe ext4
mkdir /stick /w
mount -t vfat /dev/vdb /stick
cow=/stick/a.cow
on() { cowroot attach --base /dev/vda --cow "$cow" "$@" >/dev/null && mount /dev/ublkb0 /w; }
off() { umount /w && cowroot detach 0; }
has() { [ "$(cd /w && echo [a-z]-file)" = "$1" ]; }
sum() { sha256sum <"$cow"; }
stays() { [ "$(sum)" = "$before" ]; }
write() { dd if=/dev/urandom of="/w/$1-file" bs=64k count=16 conv=fsync 2>/dev/null; }
check create cowroot create "$cow" --base /dev/vda --max-size 64M
check attach on && write a && off
check new cowroot session new "$cow" --name b
check attach-b on && check b-stands-on-main has a-file && write b && rm /w/a-file && off
check b-has-its-own on && has b-file && off
before=$(sum)
check throwaway on --session throwaway && check sees-b has b-file && write c
check throwaway-writes has "b-file c-file"
check status-says-whose sh -c 'cowroot status --json | grep -q "\"session\": \"b\""'
status_json
refused in-use "in use" cowroot session new "$cow"
off
check nothing-left stays
check looked-at on --session resume:main --read-only && check main-is-as-it-was has a-file && off
# The power goes in a session, as far as the cowfile can tell: what comes over it in RAM leaves that as it is, too.
on && write d && sync
kill -9 "$(number supervisor)" "$(number pid)"
sleep 1 && cowroot detach 0 && umount -l /w
before=$(sum)
check unclean sh -c "cowroot info --json '$cow' | grep -q '\"clean\": false'"
check throwaway-over-unclean on --session throwaway && check d-is-there has "b-file d-file" && write e && off
check unclean-stays stays
check new-by-attach on --session new:f && check f-stands-on-b has "b-file d-file" && write f && off
refused stood-on "session 'b' stands on it" cowroot session delete "$cow" main
check rollback cowroot session rollback "$cow"
check rolled-back on && check f-is-gone has "b-file d-file" && off
check list sh -c "cowroot session list '$cow' | tr '\n' ' ' | grep -q 'main on base: sealed.*b on main: takes the writes'"
check whole cowroot check "$cow"
check unmount umount /stick
