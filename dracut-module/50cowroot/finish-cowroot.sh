#!/bin/sh
# Hook pre-pivot: what it takes to end well, and dracut's own exitrd where the root can restore it.
# shellcheck disable=SC2154 # root and NEWROOT are dracut's
if [ "$root" = block:/dev/ublkb0 ]; then
	need_shutdown
	cowroot boot --stage=finish --root="$NEWROOT"
fi
