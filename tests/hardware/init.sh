#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# Process 1 of a machine. The root is the initramfs; /usr, the packages that
# this machine lacks, and Python come from shares that cannot be written.
# /etc and /boot are kept over reboots in the share "state".

export PATH=/guest/bin:/extras/sbin:/extras/bin:/usr/sbin:/usr/bin:/sbin:/bin
busybox=/bin/busybox
# By its path: else busybox takes its own, which knows no softdep.
modprobe=/guest/bin/modprobe

fail() {
    echo "init: $*" >/dev/console
    $busybox poweroff -f
}

share() {
    $busybox mkdir -p "$2"
    $busybox mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$3" \
        "$1" "$2" || fail "cannot mount $2"
}

$busybox mkdir -p /proc /sys /dev /run /tmp /var /root /etc /boot
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs devtmpfs /dev
$busybox mkdir -p /dev/shm /dev/pts
$busybox mount -t tmpfs tmpfs /dev/shm
$busybox mount -t devpts devpts /dev/pts
$busybox ln -s /proc/self/fd /dev/fd
$busybox ln -s /proc/self/fd/0 /dev/stdin

while read -r module; do
    $busybox insmod "$module" || fail "cannot load $module"
done </guest/modules

while read -r tag path options; do
    share "$tag" "$path" "$options"
done </guest/shares
for name in modules udev systemd; do
    $busybox ln -s "/extras/lib/$name" "/lib/$name"
done
# Those that are there already are kept.
$busybox ln -s /usr/lib/* /lib/ 2>/dev/null
$busybox ln -s /extras/usr/lib/*/*.so* /guest/lib/
echo $modprobe >/proc/sys/kernel/modprobe
$busybox ip link set lo up
$busybox hostname "$($busybox cat /state/etc/hostname)"

# Python takes as long to start as the drivers: it waits for them, warm.
# shellcheck source=/dev/null
. /guest/agent &

# Drivers are loaded as if all of them were in the initramfs, the hardest case:
# with the modprobe.d that update-initramfs packed, not that of /etc.
$busybox mkdir -p /packed/modprobe.d
$busybox mount -o bind /state/etc /etc
$busybox mount -o bind /state/boot /boot
$busybox mount -o bind /packed/modprobe.d /etc/modprobe.d
$busybox cat /packed/initramfs-tools/modules |
    while read -r module; do
        $modprobe "$module"
    done
LD_LIBRARY_PATH=/guest/lib
export LD_LIBRARY_PATH
/lib/systemd/systemd-udevd --daemon || fail "udevd does not start"
udevadm trigger --action=add --subsystem-match=pci --subsystem-match=virtio
udevadm settle --timeout=300 || fail "udevd does not settle"
unset LD_LIBRARY_PATH
$busybox umount /etc/modprobe.d
$busybox cat /etc/modules-load.d/*.conf 2>/dev/null |
    while read -r module; do
        $modprobe "$module"
    done

for path in /sys/class/net/*; do
    name=${path##*/}
    [ "$name" = lo ] && continue
    # QEMU's user network: addresses of docs/system/devices/net.rst.
    $busybox ip link set "$name" up
    $busybox ip addr add 10.0.2.15/24 dev "$name"
    $busybox ip route add default via 10.0.2.2
done

: >/run/booted
wait
$busybox sync
$busybox poweroff -f
