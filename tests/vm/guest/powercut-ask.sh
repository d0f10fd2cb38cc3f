# Asks for images until there are no more: the second half of powercut-verify.sh, which sources it.
# shellcheck shell=sh
next() {
	read -r number how <<-END
		$(dd if=/dev/vdc bs=4096 count=1 iflag=direct 2>/dev/null)
	END
	[ "$number" = "$asked" ]
}
# must WHAT COMMAND...: or the image has failed, and $why says how.
must() {
	what=$1
	shift
	"$@" >/tmp/said 2>&1 || { why="$what: $(tail -n 4 /tmp/said | tr '\n' ' ')" && false; }
}
asked=1
report READY
while :; do
	until next; do usleep 20000; done
	[ "$how" = end ] && break
	# Nothing stays that was read of the last image.
	echo 3 >/proc/sys/vm/drop_caches
	why=
	if image "$how"; then report VERDICT sound; else
		report VERDICT "$why"
		dmesg | tail -n 30 >/dev/ttyS0
	fi
	asked=$((asked + 1))
done
