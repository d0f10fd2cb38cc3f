#!/bin/sh
# Hook cmdline: whether this boot is ours. If it is, no other root may be mounted.
# shellcheck disable=SC2154 # hookdir is dracut's
if cowroot_base=$(cowroot boot --stage=parse 2>&1); then
	if [ -n "$cowroot_base" ]; then
		# A root= that is there all the same is not waited for.
		rm -f "$hookdir"/initqueue/finished/devexists-*.sh
		# shellcheck disable=SC2034 # dracut reads these two
		root=block:/dev/ublkb0 rootok=1
		if [ "$cowroot_base" = network ]; then
			echo 'rd.neednet=1' >/etc/cmdline.d/50-cowroot.conf
		fi
		/sbin/initqueue --settled --onetime --unique --name cowroot /sbin/attach-cowroot
		echo '[ -e /dev/ublkb0 ]' >"$hookdir/initqueue/finished/cowroot.sh"
	fi
else
	die "$cowroot_base"
fi
