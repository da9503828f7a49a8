#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# PID 1 of the Linux guest: say so, and wait for ever.
echo "guest is up"
while :; do
    /bin/busybox sleep 3600
done
