#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# pack.sh BUSYBOX ETC FILE: pack what an initramfs takes from ETC into FILE.

busybox=$1
stage=$($busybox mktemp -d)
$busybox mkdir "$stage/packed"
$busybox cp -r "$2/modprobe.d" "$2/initramfs-tools" "$stage/packed/"
cd "$stage" || exit 1
$busybox find packed | $busybox cpio -o -H newc 2>/dev/null >"$3.new" &&
    $busybox mv "$3.new" "$3" && $busybox rm -r "$stage"
