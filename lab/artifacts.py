# SPDX-License-Identifier: MIT
"""What a boot needs: hypervisors, the kernel of dom0 and busybox, from Debian's packages."""

from __future__ import annotations

import functools
import gzip
import lzma
import shutil
import struct
import sys
import tempfile
from pathlib import Path

from lab import apt, cache, config, host, programs, roots

# Offsets in a bzImage: of the number of setup sectors, and of the payload's offset (after those) and size.
SETUP_SECTORS, PAYLOAD = 0x1F1, 0x248
SECTOR_BYTES = 512

# Run in a build root; $1 is the configuration. Only the hypervisor is built, not the tools.
BUILD_XEN = """
cd /build
dpkg-source --extract ./*.dsc source
printf '%s\\n' "$1" > source/xen/.config
make -C source/xen olddefconfig
make -C source/xen -j "$(nproc)" build
mv source/xen/xen source/xen/xsm/flask/policy.bin .
"""


def hypervisor(wanted: config.Hypervisor) -> Path:
    """The file of a hypervisor, uncompressed."""
    if wanted.file:
        return wanted.file
    make = _build_hypervisor if wanted.kconfig else _unpack_hypervisor
    recipe = (wanted._replace(options=""), BUILD_XEN if wanted.kconfig else "", apt.mirror())
    return cache.entry(wanted.package, recipe, functools.partial(make, wanted)) / "xen"


def policy(wanted: config.Hypervisor) -> Path | None:
    """The file of the security policy that is built into a hypervisor; None if it has none."""
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
    """A statically linked busybox, which needs no root."""

    def make(into: Path) -> None:
        apt.fetch(config.KERNEL_SUITE, "amd64", "busybox-static", into)
        (into / "bin" / "busybox").rename(into / "busybox")

    return cache.entry("busybox", apt.mirror(), make) / "busybox"


def kernel() -> Path:
    """A directory with the kernel, as vmlinuz and uncompressed as vmlinux, and the modules."""
    modules = (*config.KERNEL_MODULES, *config.GUEST_MODULES)

    def make(into: Path) -> None:
        unpacked = into / "package"
        unpacked.mkdir()
        package = apt.first_dependency(config.KERNEL_SUITE, "amd64", config.KERNEL_METAPACKAGE)
        apt.fetch(config.KERNEL_SUITE, "amd64", package, unpacked)
        next((unpacked / "boot").glob("vmlinuz-*")).rename(into / "vmlinuz")
        (into / "vmlinux").write_bytes(_unpack_kernel((into / "vmlinuz").read_bytes()))
        for module in modules:
            next(unpacked.rglob(f"{module}.ko")).rename(into / f"{module}.ko")
        host.call(["rm", "-r", unpacked])

    return cache.entry("kernel", (modules, "vmlinux", apt.mirror()), make)


def symbols() -> Path:
    """The kernel with its debugging symbols, for which close to a gigabyte is downloaded."""

    def make(into: Path) -> None:
        unpacked = into / "package"
        unpacked.mkdir()
        package = apt.first_dependency(config.KERNEL_SUITE, "amd64", config.KERNEL_METAPACKAGE)
        apt.fetch(config.KERNEL_SUITE, "amd64", f"{package}-dbg", unpacked)
        whole = next((unpacked / "usr/lib/debug/boot").glob("vmlinux-*"))
        # The relocations are a half of the file, and no debugger needs them.
        host.call(["objcopy", "-R", ".rela.*", whole, into / "vmlinux"])
        host.call(["rm", "-r", unpacked])

    return cache.entry("symbols", (kernel().name, "with its code", apt.mirror()), make) / "vmlinux"


def volatility_symbols() -> Path:
    """A directory in which volatility3 finds what it needs to know of the kernel."""

    def make(into: Path) -> None:
        words = [sys.executable, "-m", "lab.volatility_symbols", str(symbols()), str(into / "linux.json")]
        host.call(words, environment={"PYTHONPATH": f"{programs.drgn()}:{host.CHECKOUT}"})

    recipe = (host.CHECKOUT / "lab/volatility_symbols.py").read_text()
    return cache.entry("volatility-symbols", (symbols().parent.name, programs.DRGN, recipe), make)


def _unpack_kernel(packed: bytes) -> bytes:
    """The ELF file in a bzImage (The Linux/x86 Boot Protocol). Old releases of Xen cannot unpack it."""
    sectors, start, size = packed[SETUP_SECTORS], *struct.unpack_from("<II", packed, PAYLOAD)
    start += (sectors + 1) * SECTOR_BYTES
    try:
        # The size of the unpacked file comes after the compressed data.
        return lzma.LZMADecompressor().decompress(packed[start : start + size])
    except lzma.LZMAError as error:
        raise host.LabError(f"the kernel is not compressed with xz: {error}") from error
