#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# PID 1 of the Linux guest: say where the kernel is and what it is, and wait. With "ticks" on the
# kernel's command line it counts the seconds, with "describe" it lists its tasks and mounts. With "devices" it also
# uses what it is given: of a disk that is writable it copies the first sector to the second, a network interface
# ethN gets the address 10.N.0.2, and a cpu that is plugged in is brought online.
export PATH=/lab
/bin/busybox mkdir -p /lab /proc /sys /dev
/bin/busybox --install -s /lab
mount -t proc proc /proc
grep -E ' (_stext|linux_banner|schedule_idle)$' /proc/kallsyms
cat /proc/version
echo "guest is up"
tick=0
while [ "$1" = ticks ]; do
    sleep 1
    tick=$((tick + 1))
    echo "tick $tick"
done
if [ "$1" = describe ]; then
    mount -t tmpfs described /sys
    for process in /proc/[0-9]*; do
        echo "task ${process#/proc/} $(cat "$process/comm")"
    done
    cat /proc/mounts
    echo "all is described"
fi
while [ "$1" != devices ]; do
    sleep 3600
done

mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
insmod /modules/xen-blkfront.ko
insmod /modules/xen-netfront.ko
seen=
use() {
    case $1 in
        xvd*)
            copied="is read-only"
            if [ "$(cat "/sys/block/$1/ro")" = 0 ]; then
                dd if="/dev/$1" of="/dev/$1" bs=512 count=1 seek=1 conv=fsync 2> /dev/null && copied="is copied"
            fi
            echo "$1 says $(head -c 16 "/dev/$1") and $copied"
            ;;
        eth*)
            ifconfig "$1" "10.${1#eth}.0.2" netmask 255.255.255.0 up && echo "$1 is up"
            ;;
    esac
}
while :; do
    found=$(echo $(ls /sys/block /sys/class/net | grep -E "^(xvd|eth)"))
    for name in $found; do
        case " $seen " in
            *" $name "*) ;;
            *) use "$name" ;;
        esac
    done
    for name in $seen; do
        case " $found " in
            *" $name "*) ;;
            *) echo "$name has gone" ;;
        esac
    done
    seen=$found
    for cpu in /sys/devices/system/cpu/cpu[1-9]/online; do
        [ "$(cat "$cpu" 2> /dev/null)" = 0 ] && echo 1 > "$cpu" && echo "$cpu is online"
    done
    sleep 0.5
done
