#!/bin/sh
# Unpack a tree's tar into an ext4 image, without its nodes: tree-image.sh TAR SIZE IMAGE
set -eu
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
tar -C "$tree" --no-same-owner --exclude='./dev/*' -xpf "$1"
chmod -R u+rwX "$tree"
mke2fs -q -F -t ext4 -d "$tree" "$3" "$2"
