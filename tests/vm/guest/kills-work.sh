# A daemon that is killed again and again under dpkg and sqlite, over a Debian: all that they were told is so.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/tools.sh
. /usr/lib/cowtest/tools.sh
# shellcheck source=tests/vm/guest/kill.sh
. /usr/lib/cowtest/kill.sh
attach_store /dev/vda 256M
mkdir /w && mount /dev/ublkb0 /w && mount -o bind /dev /w/dev && mount -o bind /proc /w/proc
inside() { chroot /w /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
mkdir -p /w/p/DEBIAN /w/p/opt && cp -r /w/usr/sbin /w/p/opt/
printf 'Package: probe\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: files\n' >/w/p/DEBIAN/control
check package inside dpkg-deb --root-owner-group -Znone -b /p /probe.deb
# over_and_over NAME COMMAND...: until it is enough, or fails; and says how often that was.
over_and_over() {
	name=$1 n=0 && shift
	while [ ! -e /run/enough ] && "$@"; do n=$((n + 1)); done >"/run/said-$name" 2>&1
	[ ! -e /run/enough ] || echo "$n" >"/run/$name"
}
installs() { inside dpkg -i /probe.deb && inside dpkg -P probe; }
inside sqlite3 /db "create table t (x)"
over_and_over dpkg installs &
over_and_over sqlite inside sqlite3 /db "insert into t values (hex(randomblob(2000)))" &
kill_often /nothing
true >/run/enough
wait
check dpkg-is-content [ "$(cat /run/dpkg)" -gt 0 ]
check sqlite-has-all [ "$(inside sqlite3 /db 'select count(*) from t')" = "$(cat /run/sqlite)" ]
check sqlite-is-whole [ "$(inside sqlite3 /db 'pragma integrity_check')" = ok ]
check install-once-more inside dpkg -i /probe.deb
check dpkg-verifies inside dpkg --verify probe
check same-files diff -r /w/p/opt/sbin /w/opt/sbin
check unmount umount /w/dev /w/proc /w
check fsck tool e2fsck -fn /dev/ublkb0
check no-request-failed [ "$(number failed_requests)" = 0 ]
check detach cowroot detach --all
