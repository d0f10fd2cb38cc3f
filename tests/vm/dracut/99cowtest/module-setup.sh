#!/bin/bash
# For tests: what dracut-initramfs-restore does in a root that has dracut and this initramfs, done from the inside.
# shellcheck disable=SC2154 # moddir is dracut's

check() { return 255; }

install() {
	inst_multiple cp
	inst_hook pre-pivot 99 "$moddir/keep-initramfs.sh"
}
