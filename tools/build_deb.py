# SPDX-License-Identifier: MIT
"""Build the Debian package in a root of any release, tests included.

Called as tools/build_deb.py SUITE ARCHITECTURE DIRECTORY. What is built is the working tree: the files that
git tracks or would track. The packages are left in DIRECTORY. For the machines in EMULATED, the package with
the native core is compiled by a cross compiler, and tried in an emulator instead of tested.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lab import config, host, packages, pythons, roots

UNPACK_AND_BUILD = """
mkdir /build/source
cd /build/source
tar -xf ../source.tar
dpkg-buildpackage -us -uc "$@" >../log 2>&1
"""
CROSS = ("--build=any", "--no-check-builddeps", "--build-profiles=cross,nocheck")
EMULATED = {"armhf": config.ARMHF, "arm64": config.ARM64_PYTHON}


def build(suite: str, arch: str, into: Path) -> None:
    """Build for ARCH in SUITE and print what the build says; raises LabError when it fails."""
    depends = packages.build_depends(Path("debian/control").read_text())
    root, options = config.build_root(arch, depends), ["--build=binary"]
    if arch in EMULATED:
        root, options = config.cross_root(arch, depends), [f"--host-arch={arch}", *CROSS]
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
            build_it = ["sh", "-ec", UNPACK_AND_BUILD, "sh", *options]
            roots.enter(root._replace(suite=suite), scratch, build_it)
        finally:
            print(log.read_text(errors="replace"), flush=True)
        if arch in EMULATED:
            run(EMULATED[arch], next(scratch.glob("python3-pyxc_*.deb")))
        for package in scratch.glob("*.deb"):
            shutil.copy(package, into)


def run(kind: config.Python, package: Path) -> None:
    """Run the tour of what is in a package, in a Python for its machine."""
    with tempfile.TemporaryDirectory(prefix="pyxc-unpacked-") as into:
        host.call(["dpkg-deb", "--extract", package, into])
        modules = Path(into, "usr/lib/python3/dist-packages")
        print(host.call([pythons.home(kind) / "bin/python3", "-m", "pyxc", "demo"], cwd=modules))


if __name__ == "__main__":
    try:
        host.need((*config.ROOT_NEEDS, "qemu-user"))
        build(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except host.LabError as error:
        sys.exit(str(error))
