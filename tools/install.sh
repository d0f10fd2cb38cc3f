#!/bin/sh
# Put the binary that `make build` made, and what comes with it, where distributions look:
#   install.sh install     below DESTDIR; nothing is built here, so root needs no toolchain
#   install.sh uninstall   take the same files away again
# Each folder is a variable. The initramfs tools look nowhere but in their own folders, so PREFIX is /usr, and
# does not move those. /usr/sbin: all that the binary does wants root. (/usr is merged: nothing goes to /lib or /sbin.)
set -eu
cd "$(dirname "$0")/.."
: "${DESTDIR:=}" "${PREFIX:=/usr}" "${SBINDIR:=$PREFIX/sbin}" "${DATADIR:=$PREFIX/share}"
: "${MANDIR:=$DATADIR/man}" "${DOCDIR:=$DATADIR/doc/cowroot}"
: "${BASHCOMPDIR:=$DATADIR/bash-completion/completions}" "${ZSHCOMPDIR:=$DATADIR/zsh/site-functions}"
: "${FISHCOMPDIR:=$DATADIR/fish/vendor_completions.d}" "${UNITDIR:=/usr/lib/systemd/system}"
: "${DRACUTDIR:=/usr/lib/dracut/modules.d}" "${INITCPIODIR:=/usr/lib/initcpio}"
: "${INITRAMFSTOOLSDIR:=/usr/share/initramfs-tools}"
: "${INITDIR:=/etc/init.d}"
: "${PARTS:=program man completions dracut mkinitcpio initramfs-tools sysvinit doc}"

fail() {
	echo "make $verb: $*" >&2
	exit 1
}

# file MODE SOURCE TARGET: a line of the list of what is installed.
file() { printf '%s\t%s\t%s\n' "$1" "$2" "$3"; }
# tree SOURCE TARGET: all that is in a folder of the checkout. Who may run a file says the checkout, too.
tree() {
	[ -d "$1" ] || { echo "make $verb: no folder '$1' in this checkout: nothing of it is installed" >&2 && return; }
	find "$1" -type f | LC_ALL=C sort | while IFS= read -r source; do
		mode=644
		[ ! -x "$source" ] || mode=755
		file "$mode" "$source" "$2/${source#"$1"/}"
	done
}

part() {
	case $1 in
	program) file 755 "$BINARY" "$SBINDIR/cowroot" ;;
	man)
		for page in docs/man/*.[78]; do
			file 644 "$page" "$MANDIR/man${page##*.}/${page##*/}"
		done
		;;
	completions)
		file 644 completions/cowroot.bash "$BASHCOMPDIR/cowroot"
		file 644 completions/_cowroot "$ZSHCOMPDIR/_cowroot"
		file 644 completions/cowroot.fish "$FISHCOMPDIR/cowroot.fish"
		;;
	dracut) tree dracut-module/50cowroot "$DRACUTDIR/50cowroot" ;;
	mkinitcpio)
		tree mkinitcpio-hook/install "$INITCPIODIR/install"
		tree mkinitcpio-hook/hooks "$INITCPIODIR/hooks"
		file 755 mkinitcpio-hook/cowroot-generator "$INITCPIODIR/cowroot-generator"
		tree mkinitcpio-hook/units "$UNITDIR"
		;;
	initramfs-tools)
		tree initramfs-tools-hook/hooks "$INITRAMFSTOOLSDIR/hooks"
		tree initramfs-tools-hook/scripts "$INITRAMFSTOOLSDIR/scripts"
		;;
	sysvinit)
		file 755 sysvinit/cowroot-shutdown "$INITDIR/cowroot-shutdown"
		# An empty unit is a masked one: systemd would make one of the script, and warn.
		file 644 /dev/null "$UNITDIR/cowroot-shutdown.service"
		;;
	doc)
		for text in README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT docs/*.md docs/examples/*; do
			file 644 "$text" "$DOCDIR/$text"
		done
		;;
	*) fail "PARTS: no part '$1'; there are: program man completions dracut mkinitcpio initramfs-tools sysvinit doc" ;;
	esac
}

verb=${1:-}
list=$(mktemp)
trap 'rm -f "$list"' EXIT
for name in $PARTS; do part "$name" >>"$list"; done
case $verb in
install)
	case " $PARTS " in *" program "*) [ -f "$BINARY" ] || fail "no binary '$BINARY'; run 'make build' first, not as \
root, or name one: make install BINARY=<file>" ;; esac
	while IFS="$(printf '\t')" read -r mode source target; do
		install -D -m "$mode" "$source" "$DESTDIR$target"
	done <"$list"
	;;
uninstall)
	while IFS="$(printf '\t')" read -r mode source target; do
		rm -f "$DESTDIR$target"
	done <"$list"
	# Of the folders only those that nobody else uses.
	for own in "$DOCDIR" "$DRACUTDIR/50cowroot"; do
		[ ! -d "$DESTDIR$own" ] || find "$DESTDIR$own" -depth -type d -empty -delete
	done
	;;
*) fail "install.sh: one of install, uninstall" ;;
esac
