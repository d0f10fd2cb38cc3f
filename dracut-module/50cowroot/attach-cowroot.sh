#!/bin/sh
# A job of the initqueue: the media are waited for here, while udev goes on loading drivers.
# shellcheck source=/dev/null
command -v getarg >/dev/null || . /lib/dracut-lib.sh
[ -e /dev/ublkb0 ] || cowroot boot --stage=attach || die "cowroot: the boot cannot go on; why is said above."
