#!/bin/sh
# Hook pre-mount, with and without systemd: whoever would mount the root after it finds it mounted.
# shellcheck disable=SC2154 # root and NEWROOT are dracut's
if [ "$root" = block:/dev/ublkb0 ]; then
	cowroot boot --stage=mount --root="$NEWROOT" ||
		die "cowroot: the boot cannot go on; why is said above."
fi
