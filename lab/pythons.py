# SPDX-License-Identifier: MIT
"""Foreign Pythons that run on this machine, and pyxc built for them.

Each is a directory: root has what is installed, lib the modules; bin/python3 runs the Python and is its
sys.executable. No root is entered, so the Python can start all programs of this machine.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from lab import apt, cache, config, cpython, extensions, host, packages, roots
from lab.config import Python

SUITE = "bookworm"
# The loader can set argv[0] of the program. ${0%/*} is the directory of this file.
WRAPPER = """#!/bin/sh
here=${{0%/*}}/..
exec {emulator} {loader} --argv0 "$0" --library-path {libraries} "$here"/{program} "$@"
"""
# What pyxc is built from.
BUILT_FROM = ("pyxc/", "pyxc_pytest.py", "setup.py", "pyproject.toml", "README.md")


def home(kind: Python) -> Path:
    """The directory of a Python, with the modules that the tests need."""

    def make(into: Path) -> None:
        root = into / "root"
        usr = root / "usr" if kind.root else root
        if kind.root:
            roots.unpack(kind.root, root)
        else:
            shutil.copytree(cpython.build(kind.triplet), root, symlinks=True)
            _add_modules(kind, usr)
        (into / "lib").symlink_to((usr / "lib").relative_to(into))
        host.call([extensions.BUILD_PYTHON, "-m", "compileall", "-q", *usr.glob("lib/python3*")])
        program = into / "bin" / "python3"
        program.parent.mkdir()
        if kind.loader:
            program.write_text(_wrapper(kind))
            program.chmod(0o755)
        else:
            program.symlink_to("../root/bin/python3")

    built = kind._replace(tests=(), skips=())
    recipe = (built, config.PURE_MODULES, WRAPPER, extensions.RECIPE, apt.mirror())
    return cache.entry(f"python-{kind.name}", (*recipe, None if kind.root else cpython.RECIPE), make)


def package(kind: Python) -> Path:
    """A directory with pyxc of the working tree, built for a Python."""
    paths = [path for path in packages.sources() if str(path).startswith(BUILT_FROM)]
    python = home(kind)

    def make(into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="pyxc-source-") as source:
            packages.copy(paths, Path(source))
            extensions.build(kind, _usr(kind, python), Path(source), into)

    return cache.entry(f"pyxc-{kind.name}", (python.name, packages.fingerprint(paths)), make)


def _usr(kind: Python, python: Path) -> Path:
    return python / "root" / ("usr" if kind.root else "")


def _add_modules(kind: Python, usr: Path) -> None:
    """Add the modules that Debian packages for all machines, and pyxattr, which has to be built."""
    modules = next(usr.glob("lib/python3.*/site-packages"))
    with tempfile.TemporaryDirectory(prefix="pyxc-modules-") as name:
        scratch = Path(name)
        for pure in config.PURE_MODULES:
            apt.fetch(SUITE, "amd64", pure, scratch)
        shutil.copytree(scratch / "usr/lib/python3/dist-packages", modules, dirs_exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pyxc-pyxattr-") as source:
        apt.fetch_upstream(SUITE, "python-pyxattr", Path(source))
        extensions.build(kind, usr, Path(source), modules)


def _wrapper(kind: Python) -> str:
    if kind.root:
        places = [f'"$here"/root/{place}/{kind.triplet}' for place in ("lib", "usr/lib")]
        loader = f'"$here"/root/lib/{kind.triplet}/{kind.loader}'
        program = "root/usr/bin/python3"
    else:
        places = [f"/usr/{kind.triplet}/lib"]
        loader, program = f"/usr/{kind.triplet}/lib/{kind.loader}", "root/bin/python3"
    return WRAPPER.format(
        emulator=kind.emulator or "", loader=loader, libraries=":".join(places), program=program
    )
