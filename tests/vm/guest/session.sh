# A session that stays: each boot finds what the ones before wrote. boot=N on the command line counts them.
# shellcheck shell=sh
boot=$(sed -n 's/.*boot=\([0-9]*\).*/\1/p' /proc/cmdline)
check root-is-ublk root_is_ublk
check cowfile-is-named sh -c 'cowroot status | grep -q session.cow || cowroot status | grep -q /dev/'
kept() {
	for before in $(seq $((boot - 1))); do
		(cd /kept && sha256sum -c "sum-$before") || return 1
	done
	[ "$(find /kept -name 'sum-*' | wc -l)" = $((boot - 1)) ]
}
mkdir -p /kept
check earlier-boots-are-there kept
dd if=/dev/urandom of="/kept/file-$boot" bs=64k count=$((32 * boot)) 2>/dev/null
(cd /kept && sha256sum "file-$boot") >"/kept/sum-$boot"
# Where there is a package manager, its packages stay, too.
package() {
	[ -x /usr/bin/dpkg-deb ] || return 0
	for before in $(seq $((boot - 1))); do
		dpkg -V "kept-$before" && dpkg-query -W "kept-$before" || return 1
	done
	mkdir -p /tmp/p/DEBIAN "/tmp/p/opt/kept-$boot" && cp "/kept/file-$boot" "/tmp/p/opt/kept-$boot/" &&
		printf 'Package: kept-%s\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n' "$boot" >/tmp/p/DEBIAN/control &&
		(cd /tmp/p && md5sum opt/*/* >DEBIAN/md5sums) && dpkg-deb -b /tmp/p /tmp/p.deb && dpkg -i /tmp/p.deb
}
check packages package
check status cowroot status
status_json
