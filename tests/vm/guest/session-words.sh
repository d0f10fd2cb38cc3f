# Four boots with one cowfile: the first keeps what it writes, the second throws it away, the third begins a session of
# its own, the fourth goes on with that.
# shellcheck shell=sh
boot=$(sed -n 's/.*boot=\([0-9]*\).*/\1/p' /proc/cmdline)
check root-is-ublk root_is_ublk
there() { [ "$(cd / && echo written-*)" = "$1" ]; }
session() { cowroot status --json | grep -q "\"session\": \"$1\""; }
case $boot in
1) check nothing-yet there 'written-*' && check first session main ;;
2) check sees-the-first there written-1 && check over-it session main ;;
3) check nothing-of-the-second there written-1 && check its-own session second ;;
4) check goes-on there "written-1 written-3" && check named session second ;;
esac
check write-and-read-back write_and_read_back /
mv /written "/written-$boot"
status_json
