# A merge at the next boot, its power cut in two boots at moments of chance; the third ends it, be the base's medium busy or not.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
boot=$(sed -n 's/.*boot=\([0-9]*\).*/\1/p' /proc/cmdline)
cow_on=$(sed -n 's/.*cowroot.cow=\([^: ]*\).*/\1/p' /proc/cmdline)
mkdir -p /cow /sysroot
both() {
	mount_stick && if [ "$cow_on" = /dev/vdb ]; then mount -o bind /stick /cow; else modprobe vfat && mount -t vfat "$cow_on" /cow; fi
}
stage() { cowroot boot --stage="$1" --root=/sysroot; }
busy() { until grep -q ' /run/cowroot/medium .* rw' /proc/mounts; do usleep 20000; done && cd /run/cowroot/medium && exec sleep 99; }
kept() { (cd "$1" && sha256sum -c sums); }
begin() {
	both && dd if=/dev/zero of=/stick/base.img bs=1M count=160 && mount -o bind /stick /tools/mnt/stick &&
		tool mkfs.ext4 -q -F /mnt/stick/base.img && umount /tools/mnt/stick &&
		cowroot create /cow/session.cow --base /stick/base.img --max-size 300M &&
		cowroot attach --base /stick/base.img --cow /cow/session.cow && mount -t ext4 /dev/ublkb0 /mnt &&
		dd if=/dev/urandom of=/mnt/file bs=1M count=80 && (cd /mnt && sha256sum file >sums) &&
		cowroot merge /dev/ublkb0 --next-boot && umount /mnt && cowroot detach --all && umount /cow && umount /stick
}
[ "$boot" != 1 ] || check begin begin
if [ "$boot" != 3 ]; then
	stage attach &
	while ! dmesg | grep -q ' merging: '; do usleep 50000; done
	usleep $((1$(tr -dc 0-9 </dev/urandom | head -c 5) * boot))
	report finished && echo b >/proc/sysrq-trigger
fi
[ "$cow_on" = /dev/vdb ] || busy &
check attach stage attach
kill $!
[ "$cow_on" = /dev/vdb ] || check goes-on-with-it-mounted sh -c "dmesg | grep \"is not read-only again: unmounting '/run/cowroot/medium'\""
check goes-on sh -c 'dmesg | grep "going on merging"'
check root stage mount
check same-with-session kept /sysroot
check unmount umount /sysroot && check shutdown stage shutdown
check media both
check is-merged sh -c "cowroot info /cow/session.cow | grep -q merged && ! cowroot info /cow/session.cow | grep -q 'under way'"
check bind mount -o bind /stick /tools/mnt/stick && check base-is-clean tool e2fsck -fn /mnt/stick/base.img
check base-alone mount -t ext4 -o loop,ro,noload /stick/base.img /mnt && check same-alone kept /mnt
