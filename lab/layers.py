# SPDX-License-Identifier: MIT
"""The layers of a dom0 image: base, root, Xen's tools, and what one run adds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from lab import artifacts, cache, config, cpio, guests, host, roots

INIT = Path(__file__).with_name("init.sh")

# What is left out of a dom0 that is in memory.
UNWANTED = (
    "/boot", "/dev", "/proc", "/sys", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/log",
    "/usr/share/doc", "/usr/share/i18n", "/usr/share/info", "/usr/share/javascript", "/usr/share/lintian",
    "/usr/share/locale", "/usr/share/man", "/usr/share/nodejs", "/usr/share/perl", "/usr/share/perl5",
    "/usr/share/zoneinfo",
)  # fmt: skip
UNWANTED_PARTS = (
    "/bin/perl", "/ensurepip/", "/gconv/", "/hwdb.d/", "/lib2to3/", "/libperl.", "/locale/", "/perl-base/",
    "/perl/", "/test/",
)  # fmt: skip

# A file or directory of this machine -> its path in dom0.
Files = Mapping[Path, str]


def _wanted(path: str) -> bool:
    """Whether `path` of a Debian root goes into the image."""
    unwanted = any(path.startswith(f"{place}/") for place in UNWANTED)
    return not unwanted and not any(part in path for part in UNWANTED_PARTS)


def base() -> Path:
    """What every image starts with: init, busybox, the modules of the kernel, and the guests."""
    kernel = artifacts.kernel()
    guest_files = guests.directory()
    busybox = artifacts.busybox()

    def write(archive: cpio.Writer) -> None:
        archive.file("/init", INIT.read_bytes(), executable=True)
        archive.file("/lab/busybox", busybox.read_bytes(), executable=True)
        archive.file("/lab/modules/order", "".join(f"{name}\n" for name in config.KERNEL_MODULES).encode())
        archive.tree(guest_files, "/guests")
        for name in config.KERNEL_MODULES:
            archive.tree(kernel / f"{name}.ko", f"/lab/modules/{name}.ko")

    return _cached(
        "layer-base", (INIT.read_text(), kernel.name, guest_files.name, busybox.parent.name), write
    )


def of_root(root: config.Root, prefix: str = "/") -> Path:
    """The files of a root that are needed, below `prefix`."""
    packed = roots.tar(root)

    def write(archive: cpio.Writer) -> None:
        archive.tar(packed, _wanted, prefix)

    return _cached(f"layer-{root.name}", (packed.parent.name, prefix, UNWANTED, UNWANTED_PARTS), write)


def of_package(deb: Path) -> Path:
    """The files of a Debian package."""

    def write(archive: cpio.Writer) -> None:
        with tempfile.NamedTemporaryFile() as packed:
            host.call(["sh", "-c", 'dpkg-deb --fsys-tarfile "$0" > "$1"', deb, packed.name])
            archive.tar(Path(packed.name), _wanted)

    return _cached(f"layer-{deb.stem}", deb.read_bytes(), write)


def of_job(command: str | None, environment: Mapping[str, str], files: Files, out: BinaryIO) -> None:
    """Write the last layer to `out`: `files`, and the shell script `command`, or None for a shell in dom0."""
    archive = cpio.Writer(out)
    for source, path in files.items():
        archive.tree(source, path)
    archive.file("/lab/job/environment", _exports(environment).encode())
    if command is None:
        archive.file("/lab/job/shell", b"")
    else:
        archive.file("/lab/job/run", command.encode() + b"\n")
    archive.close()


def concatenate(parts: Iterable[Path], out: BinaryIO) -> None:
    """Write archives to `out`, one after the other."""
    for part in parts:
        with part.open("rb") as archive:
            shutil.copyfileobj(archive, out)


def _exports(environment: Mapping[str, str]) -> str:
    return "".join(f"export {name}='{value}'\n" for name, value in environment.items())


def _cached(name: str, recipe: object, write: Callable[[cpio.Writer], None]) -> Path:
    def make(into: Path) -> None:
        with (into / "layer.cpio").open("wb") as out:
            archive = cpio.Writer(out)
            write(archive)
            archive.close()

    return cache.entry(name, recipe, make) / "layer.cpio"
