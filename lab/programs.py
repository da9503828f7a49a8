# SPDX-License-Identifier: MIT
"""Programs of others that are downloaded and used unchanged, without being installed.

python3 -m lab.programs COMMAND... runs a command with Prometheus' programs in its PATH.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from lab import apt, cache, config, host

WANTED = "Python-Xen==0.0.3 --hash=sha256:483d624dc8de5de9a72324274ae31f44623bc5306e2e71f0cc076dd1fc08514d\n"
DRGN = ("drgn==0.3.0",)
VOLATILITY = ("volatility3==2.28.2", "pefile==2024.8.26")


def directory() -> Path:
    """A directory with the Python package pyxen, programs for Xen's own Python modules."""

    def make(into: Path) -> None:
        wanted = into / "requirements"
        wanted.write_text(WANTED)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        host.call([*pip, "--no-build-isolation", "--require-hashes", "-r", wanted, "-d", into])
        packed = next(into.glob("*.tar.gz"))
        host.call(["tar", "-xf", packed, "-C", into, "--strip-components=1", "--wildcards", "*/pyxen/*.py"])
        packed.unlink()
        wanted.unlink()

    return cache.entry("programs", WANTED, make)


def drgn() -> Path:
    """A directory with drgn for this machine's Python."""
    return _packages("drgn", DRGN)


def volatility() -> Path:
    """A directory with volatility3 for this machine's Python; its program is bin/vol."""
    return _packages("volatility", VOLATILITY)


def _packages(name: str, wanted: tuple[str, ...]) -> Path:
    """A directory with packages of PyPI that are in no environment."""

    def make(into: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        host.call([*pip, "--target", into, *wanted])

    return cache.entry(name, (wanted, sys.version_info[:2]), make)


def add_prometheus() -> None:
    """Put Debian's prometheus and promtool into this process's PATH, if they are not there.

    They are not installed: the package starts a server. Where there is no apt, PATH stays as it is.
    """
    if shutil.which("promtool") or not shutil.which("apt-get"):
        return

    def make(into: Path) -> None:
        apt.fetch(*config.PROMETHEUS, into)

    unpacked = cache.entry("prometheus", (config.PROMETHEUS, apt.mirror()), make)
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{unpacked}/usr/bin"


def main() -> None:
    """Become the command in the arguments."""
    try:
        add_prometheus()
    except host.LabError as error:
        sys.exit(f"lab: {error}")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
