#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# PID 1 of the Linux guest: say where the kernel is and what it is, say so, and wait for ever.
/bin/busybox mkdir -p /proc
/bin/busybox mount -t proc proc /proc
/bin/busybox grep -E ' (_stext|linux_banner)$' /proc/kallsyms
/bin/busybox cat /proc/version
echo "guest is up"
while :; do
    /bin/busybox sleep 3600
done
