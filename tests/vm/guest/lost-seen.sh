# What a running system shows of a stick that is pulled out, is put back, and works again. Sourced, the Nth time.
# shellcheck shell=sh disable=SC2154
goes_on() { rm -f /run/done-one && soon [ -e /run/done-one ] && soon [ -e /run/done-one ]; }
cow=$(sed -n 's/.*"path": *"\(.*\)".*/\1/p' /run/status 2>/dev/null)
at=${cow%/cowroot/*}
# A session in RAM: then it is the base's medium.
[ -n "$cow" ] || { cow=$(sed -n 's/.*"base": *"\(.*\)".*/\1/p' /run/status 2>/dev/null) && at=${cow%/live/*}; }
check "waits-$n" soon health waiting
for place in motd.d/cowroot-lost issue.d/cowroot-lost.issue; do
	check "login-says-so-$n" grep -q "^cowroot: .*was pulled out; put it back within 30 s" "/run/$place"
done
check "log-says-so-$n" said "waits: the medium of .*was pulled out"
put_back "${stick:-0}"
check "back-$n" soon served_again "$n"
check "goes-on-$n" goes_on
check "login-is-quiet-$n" sh -c '! ls /run/*.d/cowroot-lost*'
check "log-says-it-is-back-$n" said "the medi.* of .* is back"
# The machine sees the new one, where it saw the old one.
is_seen() { [ "$(grep -c " $at " /proc/mounts)" = 1 ] && echo 3 >/proc/sys/vm/drop_caches && head -c 1048576 "$cow" >/dev/null; }
check "is-seen-$n" soon is_seen
