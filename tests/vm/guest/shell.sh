#!/bin/busybox sh
# /bin/sh of an initramfs: says that it was started, if somebody can type.
# shellcheck shell=dash
[ -t 0 ] && [ -t 1 ] && echo "a shell on a terminal" >/dev/console
