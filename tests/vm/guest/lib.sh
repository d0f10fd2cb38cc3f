# What every check uses; sourced. Results go to the second serial line, one per line.
# shellcheck shell=sh
# printf: an echo may interpret backslashes in what a command said.
report() { printf 'COWROOT-TEST %s\n' "$*" >/dev/ttyS1; }

# check CLAIM COMMAND...: the command must succeed; what it said is shown if it does not.
check() {
	claim=$1
	shift
	if said=$("$@" 2>&1); then
		report "$claim" ok
	else
		report "$claim" FAILED "$* -> $(echo "$said" | tr '\n' ' ')"
	fi
}

# refused CLAIM TEXT COMMAND...: the command must fail within 10 s, saying TEXT.
refused() {
	claim=$1 text=$2
	shift 2
	said=$(timeout 10 "$@" 2>&1) && said="(succeeded)"
	case $said in
	*"$text"*) report "$claim" ok ;;
	*) report "$claim" FAILED "$* -> $(echo "$said" | tr '\n' ' ')" ;;
	esac
}

# status_json [HEALTH]: the status for the host to judge, every device's health being this (ok).
status_json() { printf 'COWROOT-JSON %s %s\n' "${1:-ok}" "$(cowroot status --json | tr -d '\n')" >/dev/ttyS1; }

# A number from the status: used_bytes [N-th device].
number() { cowroot status --json | tr -d '\n' | tr ',{}' '\n' | sed -n "s/.*\"$1\": *//p" | sed -n "${2:-1}p"; }

root_is_ublk() { grep -q '^/dev/ublkb0 / ' /proc/mounts; }

write_and_read_back() {
	dd if=/dev/urandom of="$1/written" bs=64k count=16 2>/dev/null &&
		sum=$(sha256sum <"$1/written") && sync && echo 3 >/proc/sys/vm/drop_caches &&
		[ "$(sha256sum <"$1/written")" = "$sum" ]
}
