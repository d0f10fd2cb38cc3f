#!/bin/sh
# Inside debian-image.sh's fakeroot: debian-files.sh TREE FILES SIZE IMAGE
set -eu
tree=$1 files=$2 size=$3 image=$4

cp -r --no-preserve=ownership "$files/." "$tree/"
# The mirror's address and apt's and debconf's caches are of no use inside.
rm -rf "$tree"/etc/apt/sources.list* "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/*.bin \
	"$tree"/var/cache/debconf/*-old
: >"$tree/etc/machine-id"
echo cowroot >"$tree/etc/hostname"
rm -f "$tree/etc/fstab"

mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
# What a live system in a VM neither needs nor should wait for.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer man-db.timer systemd-timesyncd.service \
	systemd-firstboot.service systemd-hwdb-update.service ldconfig.service \
	systemd-journal-catalog-update.service systemd-journal-flush.service \
	systemd-update-done.service systemd-update-utmp.service systemd-binfmt.service \
	systemd-pcrphase.service systemd-machine-id-commit.service getty@tty1.service \
	systemd-network-generator.service systemd-tpm2-setup.service systemd-networkd.service \
	modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service \
	modprobe@fuse.service sys-fs-fuse-connections.mount sys-kernel-config.mount \
	systemd-pstore.service systemd-sysext.socket systemd-hostnamed.socket \
	systemd-udev-load-credentials.service systemd-tmpfiles-clean.timer; do
	ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done
ln -sf ../cowtest.service "$tree/etc/systemd/system/multi-user.target.wants/"

mke2fs -q -F -t ext4 -L LIVEROOT -d "$tree" "$image" "$size"
