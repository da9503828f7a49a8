# SPDX-License-Identifier: MIT
"""Build the Debian package in a root of another Debian, which runs the tests there: SUITE ARCHITECTURE [DIRECTORY].

The packages are left in DIRECTORY when there is one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lab import config, packages, roots

BUILD = "mkdir /build/source && cd /build/source && tar -xf ../source.tar && dpkg-buildpackage -b -us -uc 2>&1"


def build(suite: str, arch: str, into: Path | None) -> str:
    """The output of the build."""
    depends = packages.build_depends(Path("debian/control").read_text())
    root = config.build_root(arch, depends)._replace(suite=suite, name=f"build-{suite}-{arch}")
    with tempfile.TemporaryDirectory(prefix="pyxc-root-") as scratch:
        subprocess.run(f"git ls-files -z -co --exclude-standard | tar --null -T - -cf {scratch}/source.tar",
                       check=True, shell=True)
        output = roots.enter(root, Path(scratch), ["sh", "-c", BUILD])
        for package in Path(scratch).glob("*.deb") if into else ():
            shutil.copy(package, into)
    return output


if __name__ == "__main__":
    print(build(sys.argv[1], sys.argv[2], Path(sys.argv[3]) if len(sys.argv) > 3 else None))
