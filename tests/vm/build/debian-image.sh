#!/bin/sh
# Unpack a root's tar, add our files, make the ext4 image: debian-image.sh TAR FILES SIZE IMAGE
# fakeroot remembers owners and modes, so that a plain user gets root's files into the image. mke2fs
# must be able to read them all the same (/etc/gshadow): real modes are widened between two fakeroots.
set -eu
tar=$1 files=$2 size=$3 image=$4
tree=$(mktemp -d) owners=$(mktemp)
trap 'rm -rf "$tree" "$owners"' EXIT

fakeroot -s "$owners" tar -C "$tree" --numeric-owner -xpf "$tar"
chmod -R u+rwX "$tree"
fakeroot -i "$owners" sh -eu "$(dirname "$0")/debian-files.sh" "$tree" "$files" "$size" "$image"
