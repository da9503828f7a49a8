# SPDX-License-Identifier: MIT
"""What boots: hypervisors, the dom0 kernel and the first program in it, out of Debian's packages."""

from __future__ import annotations

import functools
import gzip
import shutil
import tempfile
from pathlib import Path

from lab import apt, cache, config, host, roots

# Run in a build root: $1 is the configuration. The hypervisor alone is built, not the tools.
BUILD_XEN = """
cd /build
dpkg-source --extract ./*.dsc source
printf '%s\\n' "$1" > source/xen/.config
make -C source/xen olddefconfig
make -C source/xen -j "$(nproc)" build
mv source/xen/xen source/xen/xsm/flask/policy.bin .
"""


def hypervisor(wanted: config.Hypervisor) -> Path:
    """The uncompressed hypervisor file."""
    make = _build_hypervisor if wanted.kconfig else _unpack_hypervisor
    recipe = (wanted._replace(options=""), BUILD_XEN if wanted.kconfig else "", apt.mirror())
    return cache.entry(wanted.package, recipe, functools.partial(make, wanted)) / "xen"


def policy(wanted: config.Hypervisor) -> Path | None:
    """The security policy that a hypervisor has built in; None where it has none."""
    return hypervisor(wanted).with_name("policy.bin") if wanted.kconfig else None


def _unpack_hypervisor(wanted: config.Hypervisor, into: Path) -> None:
    unpacked = into / "package"
    unpacked.mkdir()
    apt.fetch(wanted.suite, "amd64", wanted.package, unpacked)
    packed = next((unpacked / "boot").glob("xen-*.gz"))
    (into / "xen").write_bytes(gzip.decompress(packed.read_bytes()))
    host.call(["rm", "-r", unpacked])


def _build_hypervisor(wanted: config.Hypervisor, into: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="pyxc-lab-") as scratch:
        apt.fetch_source(wanted.suite, "xen", Path(scratch))
        configuration = "\n".join(wanted.kconfig)
        roots.enter(config.XEN_BUILD, Path(scratch), ["sh", "-ec", BUILD_XEN, "sh", configuration])
        for made in ("xen", "policy.bin"):
            shutil.copy(Path(scratch) / made, into)


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
