# Many devices at once, one daemon each, all stopped by one command.
# shellcheck shell=sh
dd if=/dev/urandom of=/tmp/base bs=1M count=4 2>/dev/null
sum=$(sha256sum </tmp/base)
for n in 0 1 2 3 4 5 6 7 8 9 10 11; do
	check "attach-$n" cowroot attach --base /tmp/base --cow tmpfs:4M --id "$n"
done
for n in 0 5 11; do
	check "reads-$n" [ "$(sha256sum <"/dev/ublkb$n")" = "$sum" ]
done
status_json
check detach-all cowroot detach --all
check none-left sh -c '! ls /dev/ublkb* 2>/dev/null'
check no-daemon-left sh -c '! ps | grep -q "@cowroo[t]"'
