# What `make demo` does where nobody sits at the terminal.
# shellcheck shell=sh
show() {
	said=$("$@" 2>&1)
	status=$?
	printf '$ %s\n%s\n' "$*" "$said" | sed 's/^/demo: /' >/dev/console
	return "$status"
}
check findmnt show findmnt /
check status show cowroot status
check write show sh -c 'echo hello >/root/hello && cat /root/hello'
check dpkg show dpkg -i /usr/lib/cowtest/hello.deb
check status-after show cowroot status
status_json
check root-is-ublk [ "$(findmnt -no SOURCE /)" = /dev/ublkb0 ]
