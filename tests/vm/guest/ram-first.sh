# While a read of a slow base is pending, what is in RAM is served at once.
# shellcheck shell=sh
cowroot attach --base /dev/vda --cow tmpfs:32M
# A whole chunk needs no read of the base to be written.
dd if=/dev/urandom of=/dev/ublkb0 bs=4k seek=8000 count=8 oflag=direct conv=notrunc 2>/dev/null
dd if=/dev/ublkb0 of=/dev/null bs=1M count=2 iflag=direct 2>/dev/null &
slow=$!
sleep 1
# The clock in hundredths: 50 direct reads of RAM must take well under what one base read takes.
now() { cut -d ' ' -f 1 /proc/uptime | tr -d .; }
start=$(now)
for n in 0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7; do
	dd if=/dev/ublkb0 of=/dev/null bs=4k skip=$((8000 + n)) count=1 iflag=direct 2>/dev/null
done
took=$(($(now) - start))
check base-read-still-pending kill -0 "$slow"
check ram-reads-are-quick [ "$took" -lt 400 ]
wait "$slow"
status_json
check detach cowroot detach --all
