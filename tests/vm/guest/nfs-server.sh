# An NFS server for another VM: it exports its disk, and changes it as it is told.
# shellcheck shell=sh
must() { "$@" || report "$*" FAILED; }
stty -F /dev/ttyS1 raw -echo
# As long as lockd is new it grants no lock, not of NFSv4 either: for 50 seconds, if nobody says less.
for module in "lockd nlm_timeout=3 nlm_grace_period=3" virtio_net nfsd; do must sh -c "modprobe $module"; done
must ip link set lo up
must ip link set eth0 up
must ip address add 192.168.76.1/24 dev eth0
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
must ip address add fd76::1/64 dev eth0
mkdir -p /export /closed /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/v4recovery /run/rpcbind /etc
touch /var/lib/nfs/etab /var/lib/nfs/rmtab /etc/exports
printf '%s\n' 'root:x:0:0::/:/bin/sh' '_rpc:x:7:7::/:/bin/sh' >/etc/passwd
printf 'tcp 6 TCP\nudp 17 UDP\n' >/etc/protocols
printf '%s\n' 'portmapper 111/tcp sunrpc' 'portmapper 111/udp sunrpc' 'nfs 2049/tcp' 'nfs 2049/udp' >/etc/services
printf '%s\n' 'udp tpi_clts v inet udp - -' 'tcp tpi_cots_ord v inet tcp - -' 'udp6 tpi_clts v inet6 udp - -' \
	'tcp6 tpi_cots_ord v inet6 tcp - -' 'local tpi_cots_ord - loopback - - -' >/etc/netconfig
must mount -t ext4 /dev/vda /export && must mount -t nfsd nfsd /proc/fs/nfsd
must rpcbind
options=rw,insecure,no_root_squash,no_subtree_check
must exportfs -i -o "$options" '*:/export'
must exportfs -i -o "$options,fsid=7" 192.168.76.99:/closed
grep -q only3 /proc/cmdline && must rpc.nfsd -N 4 4
grep -q only3 /proc/cmdline || must rpc.nfsd 4
echo Y >/proc/fs/nfsd/v4_end_grace
must rpc.mountd
report ready
image=/export/live/root.img
exec 3</dev/ttyS1
while read -r order <&3; do
	case $order in
	remove) must rm "$image" ;;
	unexport) must exportfs -u '*:/export' ;;
	export) must exportfs -i -o "$options" '*:/export' ;;
	replace) tr '\000-\377' '\001-\377\000' <"$image" >"$image.new" && must mv "$image.new" "$image" ;;
	change) tr '\000-\377' '\001-\377\000' <"$image" >/tmp/new && must dd if=/tmp/new of="$image" bs=64k conv=notrunc ;;
	esac
	sync
	report "done"
done
