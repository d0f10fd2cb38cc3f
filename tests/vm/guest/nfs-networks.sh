# A live Debian over NFS with NetworkManager and ifupdown, which both would have the card.
# shellcheck shell=sh
address() { ip -4 -o address show dev eth0 | grep -q ' 10\.0\.2\.15/24 .*forever'; }
reads() { echo 3 >/proc/sys/vm/drop_caches && timeout 20 sha256sum /usr/bin/* >/dev/null; }
check root-is-ublk [ "$(findmnt -no SOURCE /)" = /dev/ublkb0 ]
check no-failed-units [ -z "$(systemctl --failed --plain --no-legend)" ]
check networkmanager-runs systemctl is-active NetworkManager.service
check networkmanager-leaves-it [ "$(nmcli -g DEVICE,STATE device | grep '^eth0:')" = eth0:unmanaged ]
check networkmanager-off nmcli networking off
check the-address-stays address
check reads reads
check networkmanager-stops systemctl stop NetworkManager.service
check reads-without-it reads
printf 'auto lo eth0\niface lo inet loopback\niface eth0 inet dhcp\n' >/etc/network/interfaces
check ifupdown-starts systemctl restart networking.service
check ifup-of-it ifup eth0
check nobody-asks-for-another sh -c '! pgrep -l "dhc"'
check the-address-stays-with-ifupdown address
check ifupdown-stops systemctl stop networking.service
check the-address-is-there-after-it address
check reads-after-it reads
check hotplug-is-masked sh -c 'systemctl start ifup@eth0.service 2>&1 | grep -q masked'
check write-and-read-back write_and_read_back /root
status_json
