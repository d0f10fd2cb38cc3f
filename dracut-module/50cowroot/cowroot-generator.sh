#!/bin/sh
# A systemd generator. sysroot.mount of generator.early is the one that counts: nothing else may mount the root, be
# it by root=, by a GPT's type or by /etc/fstab. The hook has mounted it by the time it is wanted.
# Words that are wrong ask for it, too: no other root may come up while that is told.
base=$(cowroot boot --stage=parse 2>/dev/null) && [ -z "$base" ] && exit 0
mkdir -p "$2/initrd-root-fs.target.requires" "$2/dev-ublkb0.device.d"
printf '[Unit]\nBefore=initrd-root-fs.target\nAfter=dracut-pre-mount.service\n[Mount]\nWhat=/dev/ublkb0\nWhere=/sysroot\n' \
	>"$2/sysroot.mount"
# How long media are waited for is cowroot.wait's business.
printf '[Unit]\nJobRunningTimeoutSec=infinity\n' >"$2/dev-ublkb0.device.d/cowroot.conf"
ln -s ../sysroot.mount "$2/initrd-root-fs.target.requires/sysroot.mount"
