#!/lab/busybox sh
# SPDX-License-Identifier: MIT
# PID 1 of dom0: devices, modules, the job; then the results go to the disk as a tar file, and the machine off.
busybox=/lab/busybox
$busybox mkdir -p /proc /sys /dev /run /tmp /results /lab/bin /var/lib/xen /root
$busybox chmod 1777 /tmp
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs devtmpfs /dev
$busybox mkdir -p /dev/pts /dev/shm
$busybox mount -t devpts devpts /dev/pts
$busybox mount -t tmpfs tmpfs /dev/shm
# The root's own programs come first; busybox has what the root does not.
$busybox --install -s /lab/bin
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/lab/bin HOME=/root LANG=C.UTF-8
hostname dom0
ifconfig lo 127.0.0.1 up
while read -r module; do
    insmod "/lab/modules/$module.ko" || echo "lab: module $module does not load"
done < /lab/modules/order
mount -t xenfs xenfs /proc/xen

. /lab/job/environment
cd /root
if [ -e /lab/job/shell ]; then
    setsid cttyhack sh -l < /dev/hvc0 > /dev/hvc0 2>&1
else
    # Signs of life, where the results do not reach: QEMU runs on when dom0 hangs.
    end=$(($(cat /sys/block/vda/size) - 1))
    while sleep 5; do
        echo | dd of=/dev/vda bs=512 seek=$end conv=notrunc,fsync
    done 2> /dev/null &
    # By its path: busybox takes its own shell, and its own tools in it, for a plain "sh".
    echo "lab: job starts"
    # On the console too: of a boot that is lost, nothing else tells how far the job came.
    : > /results/output
    tail -f /results/output &
    /bin/sh /lab/job/run < /dev/null >> /results/output 2>&1
    echo $? > /lab/exit-code
    echo "lab: job ends"
    # The exit code is last: where it is, the rest is complete.
    tar -C / -cf - results lab/exit-code | dd of=/dev/vda bs=65536 conv=fsync 2> /dev/null
fi
poweroff -f
