# The disk with the tools, /dev/vda, as /tools; and the stick that is /dev/vdb, or $medium, by the word stick=. Sourced.
# shellcheck shell=sh disable=SC2034
mkdir -p /tools /stick
mount -t ext4 -o ro /dev/vda /tools
for dir in dev proc sys; do mount -o bind "/$dir" "/tools/$dir"; done
mount -t tmpfs tmp /tools/tmp
mount -t tmpfs tmp /tools/mnt
mkdir /tools/mnt/root /tools/mnt/stick
# tool COMMAND...: one of the Debian's there.
tool() { chroot /tools env PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 "$@"; }
stick=$(sed -n 's/.*stick=\([^ ]*\).*/\1/p' /proc/cmdline)
# Where its cowfile is: in its file system, at /stick, or the whole partition.
medium=${medium:-/dev/vdb}
case $stick in partition) cow=${medium}1 ;; *) cow=/stick/a.cow ;; esac
mount_stick() { [ "$stick" = partition ] || { modprobe "$stick" && mount -t "$stick" "$medium" /stick; }; }
# The stick's own file system is clean.
stick_is_clean() {
	case $stick in
	partition) ;;
	ext4) tool e2fsck -fn "$medium" ;;
	xfs) tool xfs_repair -n "$medium" ;;
	btrfs) tool btrfs check "$medium" ;;
	*) tool "fsck.$stick" -n "$medium" ;;
	esac
}
