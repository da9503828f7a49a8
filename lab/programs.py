# SPDX-License-Identifier: MIT
"""Programs that others wrote for Xen's own Python modules, downloaded and unchanged."""

from __future__ import annotations

import sys
from pathlib import Path

from lab import cache, host

WANTED = "Python-Xen==0.0.3 --hash=sha256:483d624dc8de5de9a72324274ae31f44623bc5306e2e71f0cc076dd1fc08514d\n"


def directory() -> Path:
    """A directory with the Python package pyxen."""

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
