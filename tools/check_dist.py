# SPDX-License-Identifier: MIT
"""Check what is published: tools/check_dist.py DIRECTORY, with one sdist and one wheel in it.

The sdist holds every file that git tracks, and the wheel alone lists the domains of a simulated host.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path


def missing_from(sdist: Path) -> set[str]:
    """The files that git tracks and SDIST does not have."""
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True).stdout
    tracked = {name for name in listed.split("\0") if name and Path(name).exists()}
    with tarfile.open(sdist) as members:
        return tracked - {name.partition("/")[2] for name in members.getnames()}


def list_domains(wheel: Path) -> str:
    """What `pyxc list` of a simulated host prints when WHEEL is all that is installed."""
    with tempfile.TemporaryDirectory(prefix="pyxc-dist-") as target:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", target, wheel], check=True
        )
        return subprocess.run(
            [sys.executable, "-m", "pyxc", "--target", "sim:xen-4.17", "list"],
            check=True,
            capture_output=True,
            text=True,
            cwd=target,
            env={**os.environ, "PYTHONPATH": target},
        ).stdout


def main(directory: Path) -> int:
    """Check both; return the exit code."""
    sdist, wheel = next(directory.glob("*.tar.gz")), next(directory.glob("*.whl"))
    missing = missing_from(sdist)
    if missing:
        print(f"MANIFEST.in leaves out of {sdist.name}: {' '.join(sorted(missing))}", file=sys.stderr)
        return 1
    domains = list_domains(wheel)
    print(domains, end="")
    return 0 if "Domain-0" in domains else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
