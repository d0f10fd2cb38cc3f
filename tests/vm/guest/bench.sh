# The bench's VM: the base into RAM, the tools from the same medium, then tests/vm/bench/guest does the rest.
# shellcheck shell=sh
for module in dm_snapshot dm_delay nbd overlay ublk_drv vfat nls_cp437 nls_ascii nls_iso8859-1 nls_utf8; do modprobe "$module"; done
mkdir -p /tools /run/ram
mount -t ext4 -o ro /dev/vda /tools
mount -t tmpfs -o size=90%,noswap ram /run/ram
part=$(sed -n 's/.*part=\([a-z]*\).*/\1/p' /proc/cmdline)
# Whole, holes too: a tmpfs reads what it does not have faster. Merges need RAM more than this.
[ "$part" = merge ] || dd if=/dev/vda of=/run/ram/base bs=1M iflag=direct 2>/dev/null
for dir in proc sys dev run; do mount --move "/$dir" "/tools/$dir"; done
rounds=$(sed -n 's/.*bench=\([0-9]*\).*/\1/p' /tools/proc/cmdline)
exec switch_root /tools /bin/sh /usr/lib/cowtest/bench-tools.sh "$part" "$rounds"
