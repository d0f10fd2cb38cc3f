# A full cowfile is an error for who writes, not a hang, and room comes back.
# shellcheck shell=sh
cowroot attach --base /dev/vda --cow tmpfs:4M
mkdir -p /mnt
check fills-with-an-error sh -c '! timeout 30 dd if=/dev/urandom of=/dev/ublkb0 bs=64k count=200 oflag=direct conv=notrunc'
check still-reads timeout 10 dd if=/dev/ublkb0 of=/dev/null bs=64k count=16 iflag=direct
check status timeout 10 cowroot status
status_json attention
check discard timeout 10 blkdiscard /dev/ublkb0
check writes-again timeout 10 dd if=/dev/urandom of=/dev/ublkb0 bs=64k count=16 oflag=direct conv=notrunc
check detach timeout 10 cowroot detach --all
