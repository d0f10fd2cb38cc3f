# A stick, the medium with the number 1, that the host pulls out and puts back; with the word drive=stays it is taken out
# of its drive. Sourced.
# shellcheck shell=sh
for module in xhci_pci usb_storage sd_mod; do modprobe "$module" 2>/dev/null; done
host() { printf 'COWROOT-HOST %s\n' "$*" >/dev/ttyS1; }
out=pull back=put && grep -q drive=stays /proc/cmdline && out=eject back=insert
pulled() { host "$out" "$1"; }
put_back() { host "$back" "$1"; }
# soon COMMAND...: within 20 s it succeeds.
soon() { for _ in $(seq 100); do "$@" && return || usleep 200000; done && false; }
# The stick's name now, which is another one each time if somebody still has the old one open.
name() {
	for disk in /sys/block/sd*; do [ "$(cat "$disk/size" 2>/dev/null || echo 0)" = 0 ] || found=/dev/${disk##*/}; done
	[ -b "$found" ] && echo "$found"
}
# sticks COUNT: so many are there.
sticks() { [ "$(cat /sys/block/sd*/size 2>/dev/null | grep -cv '^0$')" = "$1" ]; }
served_again() { [ "$(number count)" -gt "$1" ]; }
health() { cowroot status --json | grep -q "\"health\": \"$1\""; }
said() { dmesg | grep -q "$1"; }
