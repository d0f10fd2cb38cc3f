#!/bin/sh
# Hook pre-pivot: what it takes to end well, and dracut's own exitrd where the root can restore it.
# shellcheck disable=SC2154 # root and NEWROOT are dracut's
if [ "$root" = block:/dev/ublkb0 ]; then
	# In this order: a tmpfs may be mounted on /run/initramfs.
	cowroot boot --stage=finish --root="$NEWROOT"
	need_shutdown
fi
