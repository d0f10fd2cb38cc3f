#!/bin/sh
# Hook cmdline: whether this boot is ours. If it is, no other root may be mounted.
# shellcheck disable=SC2154 # hookdir is dracut's
if cowroot_base=$(cowroot boot --stage=parse 2>&1); then
	if [ -n "$cowroot_base" ]; then
		# A root= that is there all the same is not waited for.
		rm -f "$hookdir"/initqueue/finished/devexists-*.sh
		# shellcheck disable=SC2034 # dracut reads these two
		root=block:/dev/ublkb0 rootok=1
		cowroot_queue=--settled
		if [ "$cowroot_base" = network ]; then
			# An interface that comes up late is brought up by this queue, too: so not before one is. The other
			# one says what is wrong if none ever is.
			echo 'rd.neednet=1' >/etc/cmdline.d/50-cowroot.conf
			cowroot_queue=--online
			/sbin/initqueue --timeout --onetime --unique --name cowroot /sbin/attach-cowroot
		fi
		/sbin/initqueue "$cowroot_queue" --onetime --unique --name cowroot /sbin/attach-cowroot
		echo '[ -e /dev/ublkb0 ]' >"$hookdir/initqueue/finished/cowroot.sh"
	fi
else
	warn "$cowroot_base"
	die "cowroot: the boot cannot go on; why is said above."
fi
