# A stick's cowfile runs full under a root: told wherever one looks, and taken back when there is room again.
# shellcheck shell=sh
# shellcheck source=tests/vm/guest/room.sh
. /usr/lib/cowtest/room.sh
check root-is-ublk root_is_ublk
cowroot status --watch >/run/watched 2>&1 &
watcher=$!
cowroot status --watch --json >/run/documents &
mkdir /fill
said=
for n in $(seq 60); do
	said=$(dd if=/dev/urandom of="/fill/$n" bs=64k count=64 conv=fsync 2>&1) || break
done
check data-is-refused sh -c "echo '$said' | grep -q 'No space'"
login_says() { grep -q "more than $1 % full" /run/motd.d/cowroot-full && cmp /run/motd.d/cowroot-full /run/issue.d/cowroot-full.issue; }
check login-says soon login_says 95
check watch-says soon grep -q '^/dev/ublkb0: .* used .*attention; .*% full' /run/watched
# What only changes metadata goes on.
files() { for n in $(seq 200); do true >"/fill/$1-$n" || return 1; done; }
for round in $(seq 10); do
	files "$round" || break
	sync
done
check metadata-goes-on [ "$round" = 10 ]
check still-writable sh -c 'grep -q "^/dev/ublkb0 / [^ ]* rw" /proc/mounts && ! dmesg | grep -iE "remounting filesystem|abort|corrupt"'
status_json attention
# The next worker knows where logins look, too.
kill -9 "$(number pid)"
check login-says-after-a-kill soon login_says 95
before=$(number used_bytes)
check delete-all rm -r /fill
check room-is-back soon uses_less_than $((before - 12000000))
says_nothing() { [ ! -e /run/motd.d/cowroot-full ] && [ ! -e /run/issue.d/cowroot-full.issue ] && ! cowroot status | grep '% full'; }
check nothing-said-any-more soon says_nothing
check write-and-read-back write_and_read_back /tmp
sees_room() { tail -n 1 /run/watched | grep -qv "% full"; }
check watch-sees-room soon sees_room
kill $watcher
wait $watcher
check watch-ends-well [ $? = 0 ]
check documents-are-lines sh -c '[ -s /run/documents ] && ! grep -v "^{\"version\":.*}$" /run/documents'
