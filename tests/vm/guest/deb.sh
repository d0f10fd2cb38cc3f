# The Debian package in a live Debian: installed, used, purged. It is on a disk of its own.
# shellcheck shell=sh
check disk mount -t ext4 -o ro /dev/vda /mnt
# What the bed put there is not what is tried.
rm /usr/bin/cowroot
hash -r
files() { find /usr /etc /var/lib/dpkg/info -xdev | LC_ALL=C sort; }
files >/run/before
# This root was made without documentation, and its dpkg goes on leaving it out.
installs() { dpkg --path-include='/usr/share/doc/*' --path-include='/usr/share/man/*' -i /mnt/cowroot.deb; }
check installs installs
is_installed() { [ "$(dpkg-query -W -f='${Status}' cowroot)" = "install ok installed" ]; }
check is-installed is_installed
is_as_packaged() { ! dpkg -V cowroot 2>&1 | grep .; }
check is-as-packaged is_as_packaged
check is-found [ "$(command -v cowroot)" = /usr/sbin/cowroot ]
check version [ "$(cowroot --version | cut -d ' ' -f 2)" = "$(dpkg-query -W -f='${Version}' cowroot | sed 's/-[^-]*$//; s/~/-/')" ]
man_pages() { for page in 8/cowroot.8 8/cowroot-attach.8 7/cowroot.cmdline.7; do zcat "/usr/share/man/man$page.gz" | grep '^\.TH cowroot' || return; done; }
check man-pages man_pages
# shellcheck disable=SC2016 # the other shell expands it
check bash-completes bash -c '. /usr/share/bash-completion/completions/cowroot && COMP_WORDS=(cowroot att) COMP_CWORD=1 &&
	_cowroot cowroot att cowroot && [ "${COMPREPLY[*]}" = attach ]'
check completions ls /usr/share/zsh/vendor-completions/_cowroot /usr/share/fish/vendor_completions.d/cowroot.fish
check copyright grep -q Apache-2.0 /usr/share/doc/cowroot/copyright
# The packaged tool, beside the root's own device.
truncate -s 32M /root/disk
mke2fs -q /root/disk
device=$(cowroot attach --base /root/disk --cow tmpfs:8M)
check attached mount "$device" /media
check writes write_and_read_back /media
check status sh -c "cowroot status | grep -q '$device'"
status_json
check unmounted umount /media
check detached cowroot detach "$device"
# For sysvinit, and none of systemd's business.
check sysvinit-ends ls /etc/rc0.d/K*cowroot-shutdown /etc/rc6.d/K*cowroot-shutdown
check systemd-does-not [ "$(systemctl is-enabled cowroot-shutdown.service)" = masked ]
check purges dpkg -P cowroot
files >/run/after
check nothing-is-left diff /run/before /run/after
check is-unknown sh -c '! dpkg-query -W cowroot'
check root-goes-on write_and_read_back /root
