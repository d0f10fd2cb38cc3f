# A daemon and its supervisor that die take their own device along, and no other.
# shellcheck shell=sh
dd if=/dev/urandom of=/tmp/base bs=1M count=4 2>/dev/null
sum=$(sha256sum </tmp/base)
for n in 0 1 2; do
	cowroot attach --base /tmp/base --cow tmpfs:4M --id "$n"
done
# A supervisor waits, and costs what its own writes have touched, in KiB.
touched() { sed -n "s/^$1:[^0-9]*\([0-9]*\).*/\1/p" "/proc/$(number supervisor)/status"; }
echo "a supervisor has $(touched RssAnon) KiB of its own, and $(touched RssFile) KiB of the program in memory" >/dev/ttyS0
check supervisor-is-small [ "$(touched RssAnon)" -lt 500 ]
kill -9 "$(number supervisor 2)" "$(number pid 2)"
sleep 1
check first-lives [ "$(sha256sum </dev/ublkb0)" = "$sum" ]
check third-lives [ "$(sha256sum </dev/ublkb2)" = "$sum" ]
check status-still-answers timeout 10 cowroot status
check detach-first timeout 10 cowroot detach 0
check detach-rest timeout 20 cowroot detach --all
check number-is-free-again timeout 20 cowroot attach --base /tmp/base --cow tmpfs:4M --id 1
check detach-it timeout 10 cowroot detach 1
