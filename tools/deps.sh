#!/bin/sh
# Install what building and testing need and this machine lacks, saying what. The package names are
# those of Debian 12, Debian 13 and Ubuntu 24.04; on other systems it says by name what is missing.
#   deps.sh                all of it
#   deps.sh check-build    only say what the build lacks
#   deps.sh check-mirror   only say whether a Debian mirror must be named
set -eu
PATH=$PATH:/usr/sbin:/sbin

build="gcc:gcc ld:binutils readelf:binutils make:make"
bed="qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap xorriso:xorriso mke2fs:e2fsprogs
	debugfs:e2fsprogs kmod:kmod depmod:kmod fakeroot:fakeroot sfdisk:fdisk
	mksquashfs:squashfs-tools mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs mkfs.fat:dosfstools mkfs.exfat:exfatprogs
	mkfs.f2fs:f2fs-tools mcopy:mtools mkfs.erofs:erofs-utils zstd:zstd unxz:xz-utils shellcheck:shellcheck shfmt:shfmt
	dpkg-deb:dpkg grub-mkrescue:grub-common"
# A boot loader and a firmware are files, not commands.
files="/usr/lib/grub/i386-pc/boot_hybrid.img:grub-pc-bin /usr/lib/grub/x86_64-efi/moddep.lst:grub-efi-amd64-bin
	/usr/share/OVMF/OVMF_CODE_4M.fd:ovmf"
missing=

# The test bed finds the mirror by itself; this says early, before anything is built, that it will not.
if [ "${1:-}" = check-mirror ]; then
	[ -n "${DEBIAN_MIRROR:-}" ] && exit 0
	grep -qx 'ID="\?debian"\?' /etc/os-release && exit 0
	# shellcheck disable=SC2016 # apt's own words, not the shell's
	apt-get indextargets --format '$(ORIGIN)' 2>/dev/null | grep -qx Debian && exit 0
	echo "this machine's apt knows no Debian mirror; name one, e.g. make demo DEBIAN_MIRROR=http://<a Debian mirror>/debian" >&2
	exit 1
fi

need() { case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac }
have() { command -v "$1" >/dev/null 2>&1; }
# bindgen, in libublk's build, loads libclang and reads its headers.
have_libclang() {
	[ -n "${LIBCLANG_PATH:-}" ] || [ -n "$(find /usr/lib/llvm-*/lib /usr/lib/*/ /usr/lib64 /usr/local/lib \
		-maxdepth 1 -name 'libclang[-.]*so*' 2>/dev/null | head -n 1)" ]
}
have_clang_headers() {
	[ -n "${LIBCLANG_PATH:-}" ] || [ -n "$(find /usr/lib/llvm-*/lib/clang /usr/lib/clang /usr/lib64/clang \
		-name stddef.h 2>/dev/null | head -n 1)" ]
}
static_busybox() { have busybox && ! readelf -lW "$(command -v busybox)" | grep -q INTERP; }

if ! have cargo || ! have rustc; then
	echo "missing: a Rust toolchain (cargo, rustc), see https://rustup.rs; under sudo its PATH may be lost" >&2
	exit 1
fi
for pair in $build; do have "${pair%%:*}" || need "${pair##*:}"; done
{ have_libclang && have_clang_headers; } || need libclang-dev
[ -n "$(find /usr/lib /usr/lib64 -maxdepth 3 -name libc.a 2>/dev/null | head -n 1)" ] || need libc6-dev
if [ "${1:-}" = check-build ]; then
	[ -z "$missing" ] && exit 0
	echo "missing for the build:$missing (make deps installs it)" >&2
	exit 1
fi
for pair in $bed; do have "${pair%%:*}" || need "${pair##*:}"; done
for pair in $files; do [ -e "${pair%%:*}" ] || need "${pair##*:}"; done
# mmdebstrap maps users where it is not root.
[ "$(id -u)" = 0 ] || have newuidmap || need uidmap
static_busybox || need busybox-static
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || need debian-archive-keyring
[ -z "$missing" ] && exit 0

if ! have apt-get; then
	echo "missing, by their Debian names:$missing; install them with this system's package tool" >&2
	exit 1
fi
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
if [ -n "$sudo" ] && ! have sudo; then
	echo "missing:$missing; as root: apt-get install$missing" >&2
	exit 1
fi
echo "installing:$missing"
# A source that is not there (an old CD, say) must not keep the others from being used.
$sudo apt-get update -qq || echo "apt-get update reports errors; going on with what there is" >&2
# shellcheck disable=SC2086 # one word per package
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends $missing
