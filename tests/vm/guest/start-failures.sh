# What cannot start says why within seconds, and leaves nothing behind.
# shellcheck shell=sh
dd if=/dev/urandom of=/tmp/base bs=1M count=4 2>/dev/null
refused no-base /tmp/none cowroot attach --base /tmp/none --cow tmpfs:4M
refused bad-cow banana cowroot attach --base /tmp/base --cow banana
: >/tmp/empty
refused empty-base /tmp/empty cowroot attach --base /tmp/empty --cow tmpfs:4M
refused not-ours 7 cowroot detach 7
cowroot attach --base /tmp/base --cow tmpfs:4M --id 0
refused number-taken 0 cowroot attach --base /tmp/base --cow tmpfs:4M --id 0
check detach cowroot detach 0
if [ -e /proc/sys/kernel/io_uring_disabled ]; then
	echo 2 >/proc/sys/kernel/io_uring_disabled
	refused no-io-uring io_uring cowroot attach --base /tmp/base --cow tmpfs:4M
	echo 0 >/proc/sys/kernel/io_uring_disabled
fi
mount -o remount,ro /run
if timeout 10 cowroot attach --base /tmp/base --cow tmpfs:4M >/tmp/said 2>&1; then
	report read-only-run ok "(works without it)"
else
	check read-only-run grep -q /run /tmp/said
fi
mount -o remount,rw /run
timeout 10 cowroot detach --all
check works-afterwards cowroot attach --base /tmp/base --cow tmpfs:4M
check detach-all cowroot detach --all
check no-daemon-left sh -c '! ps | grep -q "@cowroo[t]"'
