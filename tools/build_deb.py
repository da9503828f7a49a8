# SPDX-License-Identifier: MIT
"""Build the Debian package in a root of any release, tests included.

Called as tools/build_deb.py SUITE ARCHITECTURE DIRECTORY. What is built is the working tree: the files that
git tracks or would track. The packages are left in DIRECTORY.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lab import config, host, packages, roots

UNPACK_AND_BUILD = """
mkdir /build/source
cd /build/source
tar -xf ../source.tar
dpkg-buildpackage -b -us -uc >../log 2>&1
"""


def build(suite: str, arch: str, into: Path) -> None:
    """Build for ARCH in SUITE and print what the build says; raises LabError when it fails."""
    depends = packages.build_depends(Path("debian/control").read_text())
    root = config.build_root(arch, depends)._replace(suite=suite)
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pyxc-deb-") as name:
        scratch = Path(name)
        sources = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True,
            capture_output=True,
        ).stdout
        subprocess.run(
            ["tar", "--null", "--files-from=-", "-cf", scratch / "source.tar"], check=True, input=sources
        )
        log = scratch / "log"
        log.touch()
        try:
            roots.enter(root, scratch, ["sh", "-ec", UNPACK_AND_BUILD])
        finally:
            print(log.read_text(errors="replace"), flush=True)
        for package in scratch.glob("*.deb"):
            shutil.copy(package, into)


if __name__ == "__main__":
    try:
        host.need(config.ROOT_NEEDS)
        build(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except host.LabError as error:
        sys.exit(str(error))
