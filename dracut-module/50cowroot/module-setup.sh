#!/bin/bash
# shellcheck disable=SC2154 # moddir and the like are dracut's
# The dracut module: a root on a base that must not be written. Only when asked for: add_dracutmodules+=" cowroot ".
# The hooks parse nothing; what they call is documented in cowroot-boot(8).

check() {
	require_binaries cowroot || return 1
	return 255
}

depends() {
	local module
	echo base shutdown udev-rules
	for module in initqueue net-lib; do
		# These were parts of base before.
		compgen -G "$dracutbasedir/modules.d/[0-9][0-9]$module" >/dev/null && echo "$module"
	done
	return 0
}

installkernel() {
	# Not only what this machine has: a live medium boots others.
	hostonly='' instmods ublk_drv loop '=fs/nls' \
		isofs squashfs erofs ext4 xfs btrfs f2fs vfat exfat \
		sr_mod sd_mod cdrom usb_storage uas ahci ata_piix nvme mmc_block virtio_blk virtio_scsi \
		xhci_pci ehci_pci ohci_pci uhci_hcd nfs nfsv3 nfsv4
}

install() {
	inst_multiple cowroot mount umount sleep
	inst_hook cmdline 30 "$moddir/parse-cowroot.sh"
	inst_hook pre-mount 30 "$moddir/mount-cowroot.sh"
	inst_hook pre-pivot 30 "$moddir/finish-cowroot.sh"
	inst_hook shutdown 30 "$moddir/shutdown-cowroot.sh"
	inst_script "$moddir/attach-cowroot.sh" /sbin/attach-cowroot
	if dracut_module_included systemd-initrd; then
		inst_script "$moddir/cowroot-generator.sh" "$systemdutildir/system-generators/dracut-cowroot-generator"
	fi
	dracut_need_initqueue
}
