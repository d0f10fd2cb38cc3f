# The end of a check of a stick that was put back: detached, it is as sound as what was never pulled, once the mark that FAT
# and exFAT keep of it is gone. Sourced.
# shellcheck shell=sh disable=SC2154
check detach cowroot detach --all
[ "$stick" = partition ] || umount /stick
medium=$(name)
case $stick in vfat | exfat) tool "fsck.$stick" -a "$medium" ;; esac >/tmp/repaired 2>&1
check stick-is-clean stick_is_clean
[ "$stick" = partition ] && cow=${medium}1
mount_stick
check whole cowroot check "$cow"
