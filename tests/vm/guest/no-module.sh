# A kernel whose ublk module is not there: said by name.
# shellcheck shell=sh
dd if=/dev/urandom of=/tmp/base bs=1M count=4 2>/dev/null
refused names-the-module ublk_drv cowroot attach --base /tmp/base --cow tmpfs:4M
