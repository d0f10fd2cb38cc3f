#!/bin/sh
# Make a Debian package of what `make install` installs:
#   deb.sh name                      its file's name
#   deb.sh make BINARY TARGET FILE   write it to FILE
# The same sources, binary and SOURCE_DATE_EPOCH (default: the last commit's time) give the same bytes. There is no
# debhelper: what it would do here is a few lines, and a machine that builds cowroot has no use for it otherwise.
set -eu
umask 022
cd "$(dirname "$0")/.."
key() { sed -n "s/^$1 = \[*\"\(.*\)\"\]*\$/\1/p" Cargo.toml | head -n 1; }
version=$(key version | sed 's/-/~/')-${DEB_REVISION:-1}
arch=$(dpkg --print-architecture)
[ "${1:-}" != name ] || { echo "cowroot_${version}_$arch.deb" && exit; }

[ "${1:-}" = make ] || { echo "deb.sh: one of name, make" >&2 && exit 1; }
binary=$2 target=$3 out=$4
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH
maintainer=${DEB_MAINTAINER:-$(key authors)}
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
tree=$top/tree doc=$top/tree/usr/share/doc/cowroot

# mkinitcpio is not in Debian. zsh looks for a package's completions elsewhere here.
env -i PATH="$PATH" DESTDIR="$tree" BINARY="$binary" ZSHCOMPDIR=/usr/share/zsh/vendor-completions \
	PARTS="program man completions dracut initramfs-tools sysvinit doc" sh tools/install.sh install

mv "$doc/CHANGELOG.md" "$doc/changelog"
rm "$doc/LICENSE-APACHE" "$doc/LICENSE-MIT"
sh tools/notices.sh "$target" >"$doc/NOTICES"
cat >"$doc/changelog.Debian" <<END
cowroot ($version) unstable; urgency=medium

  * Built by 'make deb' from the sources. What is new in them: changelog.gz.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END
cat >"$doc/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: cowroot
Upstream-Contact: $maintainer
Comment: The program is linked statically. NOTICES.gz beside this file has the licences of the crates in it.

Files: *
$(sed -n 's/^Copyright (c) /Copyright: /p' LICENSE-MIT)
License: Expat or Apache-2.0

License: Expat
$(sed -n '/^Permission/,$p' LICENSE-MIT | sed 's/^$/./; s/^/ /')

License: Apache-2.0
 The text is in /usr/share/common-licenses/Apache-2.0.
END
gzip -9n "$doc/changelog" "$doc/changelog.Debian" "$doc/NOTICES" "$tree"/usr/share/man/man*/*

mkdir -p "$tree/usr/share/lintian/overrides"
cat >"$tree/usr/share/lintian/overrides/cowroot" <<END
# In an initramfs there is nothing it could be linked to.
cowroot: shared-library-lacks-prerequisites [usr/sbin/cowroot]
END

# What is linked into it is said where Debian's tools look, if Debian's own libc was.
libc=$(dpkg-query -W -f='${source:Package} (= ${source:Version})' libc6-dev 2>/dev/null) || libc=
mkdir "$tree/DEBIAN"
cat >"$tree/DEBIAN/control" <<END
Package: cowroot
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(cd "$tree" && find etc usr -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
${libc:+Built-Using: $libc
}Recommends: dracut | initramfs-tools
Section: admin
Priority: optional
Description: $(key description | sed 's/^A //; s/:.*//')
 cowroot stacks a cowfile on a base (a file system image on a CD, a stick, a
 disk) and serves both as one writable block device, from user space through
 the kernel's ublk driver. The base is never written. In an initramfs it finds
 the medium and makes that device the root; on a running system it is a tool
 for such devices.
 .
 Linux 6.9 or newer with CONFIG_BLK_DEV_UBLK is needed.
END
echo /etc/init.d/cowroot-shutdown >"$tree/DEBIAN/conffiles"
script() {
	cat >"$tree/DEBIAN/$1"
	chmod 755 "$tree/DEBIAN/$1"
}
script postinst <<'END'
#!/bin/sh
set -e
[ "$1" != configure ] || update-rc.d cowroot-shutdown defaults
END
script postrm <<'END'
#!/bin/sh
set -e
[ "$1" != purge ] || update-rc.d cowroot-shutdown remove
END
# What is in an initramfs is to be of the version that is installed, so its tool is told, as
# cryptsetup-initramfs and live-boot do. dpkg's trigger does that once, at the end, and nothing where no tool is.
echo 'activate-noawait update-initramfs' >"$tree/DEBIAN/triggers"
(cd "$tree" && find usr -type f | LC_ALL=C sort | xargs md5sum >DEBIAN/md5sums)

mkdir -p "$(dirname "$out")"
# Files that are younger than SOURCE_DATE_EPOCH, all of them, get its time in there.
dpkg-deb -Zxz --root-owner-group --build "$tree" "$out" >/dev/null
echo "$out: $(stat -c %s "$out") bytes"
