# Sessions merged into a file and into a block device, and undone; into a new image of a CD; refused where it cannot be.
# shellcheck shell=sh
for module in vfat ahci sr_mod isofs; do modprobe "$module"; done
mkdir /s /cd && mount -t vfat /dev/vdb /s && mount -t iso9660 -o ro /dev/sr0 /cd && dd if=/dev/vda of=/tmp/base bs=1M count=16
sum() { sha256sum <"$1"; }
fails() { ! "$@"; }
# session BASE KIND: some of it written, some discarded; what the device reads as is kept.
session() {
	cowroot attach --base "$1" --cow /s/a.cow || return
	for at in 1 77 300 301 302 2000 3000; do
		dd if=/dev/urandom of=/dev/ublkb0 bs=4k seek=$at count=9 conv=notrunc 2>/dev/null
	done
	blkdiscard -o 4194304 -l 1048576 /dev/ublkb0 2>/dev/null || dd if=/dev/zero of=/dev/ublkb0 bs=1M seek=4 count=1 conv=notrunc
	refused "merge-of-$2-in-use" "in use" cowroot merge /s/a.cow --into "$1"
	sum /dev/ublkb0 >/run/device
	cowroot detach --all
}
json() { ! grep -v '^{.*}$' "$1" && tail -n1 "$1" | grep '"phase":"merged",.*"sessions":\["main"\]'; }
merge() { cowroot merge /s/a.cow --into "$@" >/tmp/told && json /tmp/told && cowroot info /s/a.cow && cowroot check /s/a.cow; }
for base in /tmp/base /dev/vda; do
	kind=${base##*/}
	before=$(sum "$base")
	check "create-$kind" cowroot create /s/a.cow --base "$base" --max-size 64M
	check "session-$kind" session "$base" "$kind"
	check "dry-run-$kind" cowroot merge /s/a.cow --into "$base" --dry-run
	check "untouched-$kind" [ "$(sum "$base")" = "$before" ]
	check "merge-$kind" merge "$base" --undo-log /s/undo --progress=json
	check "base-alone-$kind" [ "$(sum "$base")" = "$(cat /run/device)" ]
	check "undo-$kind" cowroot merge --undo /s/undo
	check "as-before-$kind" [ "$(sum "$base")" = "$before" ]
	cowroot attach --base "$base" --cow /s/a.cow
	check "session-is-back-$kind" [ "$(sum /dev/ublkb0)" = "$(cat /run/device)" ]
	cowroot detach --all
	rm /s/a.cow /s/undo
done
check create-cd cowroot create /s/a.cow --base /cd/live/root.img --max-size 64M
check session-cd session /cd/live/root.img cd
refused into-cd "read-only" cowroot merge /s/a.cow --into /cd/live/root.img
check new-image cowroot merge /s/a.cow --base /cd/live/root.img --output /s/new.img
check new-image-has-it-all [ "$(sum /s/new.img)" = "$(cat /run/device)" ]
