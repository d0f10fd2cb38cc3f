# A root that is merged into its base before the next boot mounts it, and whose power goes twice meanwhile; the last
# boot has the base alone.
# shellcheck shell=sh
boot=$(sed -n 's/.*boot=\([0-9]*\).*/\1/p' /proc/cmdline)
check root-is-ublk root_is_ublk
kept() { (cd /kept && sha256sum -c sums); }
said() { dmesg | grep -q "$1"; }
write() {
	mkdir /kept && dd if=/dev/urandom of=/kept/file bs=1M count=128 && (cd /kept && sha256sum file >sums) && sync
}
case $boot in
1) check write write && check ask cowroot merge /dev/ublkb0 --next-boot ;;
4)
	check goes-on said 'going on merging'
	check is-over said ': merged .* into the base'
	check same-with-session kept
	check write-and-read-back write_and_read_back /
	rm /written
	;;
5) check same-alone kept && check nothing-to-merge sh -c '! dmesg | grep merging' ;;
esac
status_json
