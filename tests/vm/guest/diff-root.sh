# A base with a file system of type $fs, and a session that changes it in every way. Sourced.
# shellcheck shell=sh disable=SC2154
modprobe "$fs"
rm -f /tmp/base /tmp/*.cow && truncate -s 320M /tmp/base
case $fs in ext4) force=-F ;; *) force=-f ;; esac
check "mkfs-$fs" tool "mkfs.$fs" -q "$force" /tmp/base
mount_file /tmp/base
cp -r /tools/usr/sbin "$root"
for name in content mode deleted renamed linked same; do echo "$name" >"$root/$name"; done
mkdir "$root/dir" && echo in >"$root/dir/in" && ln -s here "$root/link"
unmount_file
cowroot create /tmp/a.cow --base /tmp/base >/dev/null
cowroot attach --base /tmp/base --cow /tmp/a.cow
mount -t "$fs" /dev/ublkb0 "$root"
echo CONTENT >"$root/content" && chmod 4755 "$root/mode" && rm "$root/deleted" && mv "$root/renamed" "$root/new-name"
ln "$root/linked" "$root/another" && ln -sf there "$root/link" && mknod "$root/node" c 1 3
rm -r "$root/dir" && echo now >"$root/dir" && mkdir -p "$root/new" && echo added >"$root/new/file"
chown 70000:8 "$root/new/file"
# setxattr(2) of x86_64, for want of a tool.
tool perl -e 'syscall(188, @ARGV, 5, 0) == 0 or die $!' /mnt/root/same user.note noted
session=$(tree)
# As after a power cut: synced, and not unmounted.
sync && cp /tmp/a.cow /tmp/unclean.cow
umount "$root" && cowroot detach --all
before=$(sums)
check "diff-$fs" sh -c 'cowroot diff /tmp/a.cow --base /tmp/base --json --tar /tmp/a.tar >/tmp/list'
sed -n 's/.*"path":"\([^"]*\)".*"change":"\([a-z]*\)".*/\2 \1/p' /tmp/list >/tmp/changes
printf '%s\n' 'added /another' 'content /content' 'deleted /deleted' 'type /dir' 'deleted /dir/in' 'content /link' \
	'metadata /linked' 'metadata /mode' 'added /new' 'added /new/file' 'added /new-name' 'added /node' \
	'deleted /renamed' 'metadata /same' >/tmp/expected
check "all-changes-$fs" diff /tmp/expected /tmp/changes
cowroot diff /tmp/a.cow --base /tmp/base >/tmp/text && cowroot diff /tmp/unclean.cow --base /tmp/base >/tmp/unclean
check "same-after-a-cut-$fs" diff /tmp/text /tmp/unclean
check "unchanged-$fs" [ "$(sums)" = "$before" ]
check "none-left-$fs" none_left
tool /usr/bin/cp --sparse=always /tmp/base /tmp/carried && mount_file /tmp/carried
(cd "$root" && xargs -0r rm -rf -- </tmp/a.tar.deleted)
check "unpack-$fs" tool /usr/bin/tar -xpf /tmp/a.tar --numeric-owner --xattrs '--xattrs-include=*' -C /mnt/root
check "same-tree-$fs" [ "$(tree)" = "$session" ]
unmount_file && rm /tmp/carried
