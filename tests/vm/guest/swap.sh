# Swap on the device is reported as soon as it is used.
# shellcheck shell=sh
truncate -s 64M /tmp/base
cowroot attach --base /tmp/base --cow tmpfs:64M
mkswap /dev/ublkb0
check swapon swapon /dev/ublkb0
status_json
group=/run/cgroup/swapped
mkdir /run/cgroup && mount -t cgroup2 cgroup /run/cgroup
echo +memory >/run/cgroup/cgroup.subtree_control && mkdir $group
# Random: a page of zeros is not written to a swap area.
sh -c "echo 0 >$group/cgroup.procs && dd if=/dev/urandom of=/tmp/swapped bs=1M count=24"
sum=$(sha256sum </tmp/swapped)
# It may say that it could not get all of it.
echo 20M >$group/memory.reclaim
swap_used() { awk '/ublkb0/ { exit $4 < 8000 }' /proc/swaps; }
check is-used swap_used
check log-tells sh -c 'dmesg | grep -q "swap on this device"'
check status-tells sh -c 'cowroot status | grep -q "swap was used"'
status_json attention
check comes-back-whole [ "$(sha256sum </tmp/swapped)" = "$sum" ]
check gives-up-swap sh -c 'rm /tmp/swapped && timeout 20 swapoff /dev/ublkb0'
check detach cowroot detach --all
