# Who goes on for a killed daemon waits for the kernel's work behind its end before it empties the driver's slots, and
# again before it fetches. What that work does to who does not, before Linux 6.15, is too rare to be waited for.
# shellcheck shell=sh
tracing=/sys/kernel/tracing
truncate -s 4M /tmp/base
check attach cowroot attach --base /tmp/base --cow tmpfs:4M
mount -t tracefs tracefs $tracing
echo vmstat_refresh ublk_ctrl_uring_cmd ublk_ch_mmap >$tracing/set_ftrace_filter
echo function >$tracing/current_tracer
for n in 1 2 3 4 5; do
	kill -9 "$(number pid)"
	# Answered by who goes on.
	dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null
done
# The functions, in the order of their calls.
called() { sed -n 's/.*: \(vmstat_refresh\|ublk_ctrl_uring_cmd\|ublk_ch_mmap\) <.*/\1/p' $tracing/trace; }
# Each command is one call or two. What is between the waits empties the slots, what is mapped is fetched to.
wanted='vmstat_refresh \(ublk_ctrl_uring_cmd \)\+vmstat_refresh \(ublk_ctrl_uring_cmd \)*ublk_ch_mmap'
check waits-twice [ "$(called | tr '\n' ' ' | grep -o "$wanted" | wc -l)" = "$n" ]
check detach cowroot detach --all
