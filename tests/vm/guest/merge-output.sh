# A session on a CD's base, made a new image on a stick; the next boot's root is that image.
# shellcheck shell=sh
boot=$(sed -n 's/.*boot=\([0-9]*\).*/\1/p' /proc/cmdline)
check root-is-ublk root_is_ublk
kept() { (cd "$1" && sha256sum -c sums); }
# It takes its time, and the boot did not wait for it; its node is there before it can be opened.
stick() { for _ in $(seq 60); do mount -t ext4 /dev/sda /stick && return || sleep 1; done && false; }
session() {
	mkdir -p /stick /cd /w && stick && mount -t iso9660 -o ro /dev/sr0 /cd &&
		cowroot create /stick/a.cow --base /cd/live/root.img --max-size 64M &&
		cowroot attach --base /cd/live/root.img --cow /stick/a.cow && mount -t ext4 /dev/ublkb1 /w && mkdir /w/kept &&
		dd if=/dev/urandom of=/w/kept/file bs=64k count=64 && (cd /w/kept && sha256sum file >sums) && umount /w && cowroot detach 1
}
if [ "$boot" = 1 ]; then
	check session session
	check output cowroot merge /stick/a.cow --base /cd/live/root.img --output /stick/new.img --progress=json
	umount /stick
else
	check all-there kept /kept
	check write-and-read-back write_and_read_back /
fi
status_json
