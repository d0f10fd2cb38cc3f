# A live Debian over NFS, whose networkd would have the card's address from DHCP and udev its name.
# shellcheck shell=sh
check root-is-ublk [ "$(findmnt -no SOURCE /)" = /dev/ublkb0 ]
check multi-user systemctl is-active multi-user.target
check no-failed-units [ -z "$(systemctl --failed --plain --no-legend)" ]
# Our images do without it.
rm /etc/systemd/system/systemd-networkd.service
systemctl daemon-reload
check networkd-starts systemctl start systemd-networkd.service
sleep 5
check the-name-stays [ -e /sys/class/net/eth0 ]
check it-is-left-alone [ "$(networkctl list --no-legend eth0 | awk '{ print $5 }')" = unmanaged ]
check nothing-waits-for-it timeout 30 systemctl start systemd-networkd-wait-online.service
check write-and-read-back write_and_read_back /root
status_json
