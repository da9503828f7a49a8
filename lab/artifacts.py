# SPDX-License-Identifier: MIT
"""What boots: hypervisors, the dom0 kernel and the first program in it, out of Debian's packages."""

from __future__ import annotations

import gzip
from pathlib import Path

from lab import apt, cache, config, host


def hypervisor(wanted: config.Hypervisor) -> Path:
    """The uncompressed hypervisor file."""

    def make(into: Path) -> None:
        unpacked = into / "package"
        unpacked.mkdir()
        apt.fetch(wanted.suite, "amd64", wanted.package, unpacked)
        packed = next((unpacked / "boot").glob("xen-*.gz"))
        (into / "xen").write_bytes(gzip.decompress(packed.read_bytes()))
        host.call(["rm", "-r", unpacked])

    return cache.entry(wanted.package, (wanted, apt.mirror()), make) / "xen"


def busybox() -> Path:
    """A statically linked busybox, which runs in every root and in none."""

    def make(into: Path) -> None:
        apt.fetch(config.KERNEL_SUITE, "amd64", "busybox-static", into)
        (into / "bin" / "busybox").rename(into / "busybox")

    return cache.entry("busybox", apt.mirror(), make) / "busybox"


def kernel() -> Path:
    """A directory with vmlinuz and the modules of config.KERNEL_MODULES, all in one place."""

    def make(into: Path) -> None:
        unpacked = into / "package"
        unpacked.mkdir()
        package = apt.first_dependency(config.KERNEL_SUITE, "amd64", config.KERNEL_METAPACKAGE)
        apt.fetch(config.KERNEL_SUITE, "amd64", package, unpacked)
        next((unpacked / "boot").glob("vmlinuz-*")).rename(into / "vmlinuz")
        for module in config.KERNEL_MODULES:
            next(unpacked.rglob(f"{module}.ko")).rename(into / f"{module}.ko")
        host.call(["rm", "-r", unpacked])

    return cache.entry("kernel", (config.KERNEL_MODULES, apt.mirror()), make)
