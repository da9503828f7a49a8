# SPDX-License-Identifier: MIT
"""Debian roots, made by mmdebstrap: tar files for dom0 images, directories for builds.

Without root, mmdebstrap uses a user namespace, and so does entering a directory.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from lab import apt, cache, host
from lab.config import Root

NAMESPACE = ["unshare", "--mount", "--fork"]
USER_NAMESPACE = ["unshare", "--map-root-user", "--map-auto", "--mount", "--pid", "--fork"]

# Run in a mount namespace of its own, so nothing stays mounted. $1 is the root, $2 a directory that becomes
# its /build; the rest is the command.
ENTER = """
set -e
tree=$1 build=$2
shift 2
mount --rbind /dev "$tree/dev"
mount -t proc proc "$tree/proc" 2>/dev/null || mount --rbind /proc "$tree/proc"
mkdir -p "$tree/build"
mount --bind "$build" "$tree/build"
exec chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/build "$@"
"""


def tar(root: Root) -> Path:
    """A root as a tar file."""

    def make(into: Path) -> None:
        _mmdebstrap(root, into / "root.tar")

    return cache.entry(f"root-{root.name}", (root, apt.mirror()), make) / "root.tar"


def tree(root: Root) -> Path:
    """A root as a directory that :func:`enter` can enter."""

    def make(into: Path) -> None:
        unpack(root, into / "tree")

    return cache.entry(f"tree-{root.name}", (root, apt.mirror()), make) / "tree"


def unpack(root: Root, into: Path) -> None:
    """Make a root in the directory `into`, which does not exist yet."""
    packed = into.with_name("root.tar")
    _mmdebstrap(root, packed)
    extract(packed, into)
    packed.unlink()


def extract(packed: Path, into: Path) -> None:
    """Unpack the tar file of a root, except its /dev, into the directory `into`, which does not exist yet."""
    into.mkdir()
    host.call([*_namespace(), "tar", "-xf", packed, "-C", into, "--exclude=./dev/*"])


def enter(root: Root, build: Path, command: Sequence[str]) -> str:
    """Run a command in a root, with the directory `build` as its /build and HOME; return its output."""
    shell = [*_namespace(), *personality(root.arch), "sh", "-c", ENTER, "sh"]
    return host.call([*shell, str(tree(root)), str(build), *command])


def _mmdebstrap(root: Root, packed: Path) -> None:
    host.call(
        [
            "mmdebstrap",
            f"--variant={root.variant}",
            f"--architectures={root.arch}",
            f"--include={','.join(root.packages)}",
            "--format=tar",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            root.suite,
            packed,
            apt.source_line(root.suite),
        ]
    )


def _namespace() -> list[str]:
    return NAMESPACE if os.geteuid() == 0 else USER_NAMESPACE


def personality(arch: str) -> list[str]:
    """A prefix that makes uname report the machine of `arch`, for build tools that ask the kernel."""
    return ["setarch", "i686"] if arch == "i386" and platform.machine() == "x86_64" else []
