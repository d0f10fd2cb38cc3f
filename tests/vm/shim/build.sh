#!/bin/bash
# A shim of mkinitcpio, which is not in Debian: what mkinitcpio(8) says of install hooks, and no more of it.
# build.sh HOOK... makes /initrd in the tree it runs in; MODULES is mkinitcpio.conf's. Hooks are looked for here, and where mkinitcpio's lie.
# shellcheck disable=SC2034,SC2317 # what hooks use
set -u
shim=$(dirname "$0") initcpio=/usr/lib/initcpio
BUILDROOT=$(mktemp -d) KERNELVERSION=$(ls /usr/lib/modules)
declare -A runtime=([earlyhook]='' [hook]='' [latehook]='' [cleanuphook]='' [emergencyhook]='')
failures=0

error() {
	echo "shim: $*" >&2
	((++failures))
	return 1
}
map() {
	local each
	for each in "${@:2}"; do "$1" "$each"; done
}
add_dir() { mkdir -p "$BUILDROOT$1"; }
add_symlink() { add_dir "${1%/*}" && ln -sfn "${2:-$(readlink "$1")}" "$BUILDROOT$1"; }
add_file() {
	[[ -f $1 ]] || error "no file '$1'" && install -D -m "${3:-$(stat -L -c %a "$1")}" "$1" "$BUILDROOT${2:-$1}"
}
add_full_dir() {
	local file
	while read -r file; do add_file "$file"; done < <(find "$1" -type f -name "${2:-*}")
}
add_binary() {
	local program library
	program=$1
	[[ $1 == /* ]] || program=$(type -P "$1") || error "no program '$1'" || return
	add_file "$program" "${2:-$program}" "${3:-755}"
	while read -r library; do
		[[ -e $BUILDROOT$library ]] || add_file "$library"
	done < <(ldd "$program" 2>/dev/null | grep -o '/[^ ]*')
}
add_module() {
	local kind file
	while read -r kind file _; do
		[[ $kind != insmod || -e $BUILDROOT$file ]] || add_file "$file"
	done < <(modprobe -S "$KERNELVERSION" --show-depends "${1%\?}" 2>/dev/null || [[ $1 == *\? ]] || error "no module '$1'")
}
add_all_modules() {
	local module
	while read -r module; do
		add_module "$(basename "${module%.ko*}")"
	done < <(find "/lib/modules/$KERNELVERSION/kernel" -name '*.ko*' | grep -E "$@")
}
add_checked_modules() { add_all_modules "$@"; }
add_udev_rule() { add_file "/usr/lib/udev/rules.d/$1"; }
add_runscript() {
	local hook=${BASH_SOURCE[1]##*/} script point
	script=$(find "$shim/hooks" "$initcpio/hooks" -name "$hook") && add_file "$script" "/hooks/$hook" 755
	for point in "${!runtime[@]}"; do
		grep -q "^run_$point()" "$script" || continue
		case $point in
		cleanuphook | emergencyhook) runtime[$point]="$hook ${runtime[$point]}" ;;
		*) runtime[$point]+=" $hook" ;;
		esac
	done
}

mkdir -p "$BUILDROOT"/{new_root,proc,sys,dev,run,tmp,var,etc,usr/{lib,bin}}
ln -s usr/lib "$BUILDROOT/lib" && ln -s usr/bin "$BUILDROOT/bin" && ln -s usr/bin "$BUILDROOT/sbin"
ln -s bin "$BUILDROOT/usr/sbin" && ln -s lib "$BUILDROOT/usr/lib64" && ln -s usr/lib "$BUILDROOT/lib64"
ln -s ../proc/self/mounts "$BUILDROOT/etc/mtab" && echo 'ID=shim' >"$BUILDROOT/etc/initrd-release"
# shellcheck disable=SC2086 # words
map add_module ${MODULES:-}
for hook in "$@"; do
	unset -f build
	# shellcheck source=/dev/null
	source "$(find "$shim/install" "$initcpio/install" -name "$hook")" && build
done
for point in "${!runtime[@]}"; do echo "${point^^}S='${runtime[$point]}'"; done >"$BUILDROOT/config"
# It leaves depmod's binary indexes only.
cp "/lib/modules/$KERNELVERSION"/modules.{builtin,builtin.modinfo,order} "$BUILDROOT/lib/modules/$KERNELVERSION"
depmod -b "$BUILDROOT" "$KERNELVERSION"
shopt -s extglob
rm "$BUILDROOT/lib/modules/$KERNELVERSION"/modules.!(*.bin|devname|softdep)
ldconfig -r "$BUILDROOT"
((failures == 0)) || exit 1
(cd "$BUILDROOT" && find . | cpio -o -H newc --quiet | zstd -q -3) >/initrd
