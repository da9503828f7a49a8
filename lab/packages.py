# SPDX-License-Identifier: MIT
"""The project's Debian packages, built from the working tree in a root of the architecture it is for."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from lab import cache, config, host, layers, roots

# Without tests: `make deb` runs these, and recordings have to be made before they can be tested.
BUILD = "cd /build/source && DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage -b -us -uc"


def build(arch: str) -> list[Path]:
    """The packages for `arch`, built from the working tree: from all files that git tracks or would track."""
    listed = sources()
    if Path("debian/control") not in listed:
        raise host.LabError("debian/control is missing in this tree (--no-package boots without the package)")
    root = config.build_root(arch, build_depends((host.CHECKOUT / "debian/control").read_text()))

    def make(into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="pyxc-lab-") as scratch:
            copy(listed, Path(scratch) / "source")
            roots.enter(root, Path(scratch), ["sh", "-c", BUILD])
            for deb in Path(scratch).glob("*.deb"):
                shutil.copy(deb, into)

    made = cache.entry(f"package-{arch}", (root, fingerprint(listed)), make)
    return [next(made.glob(f"{package}_*.deb")) for package in config.PACKAGES]


def archives(arch: str) -> list[Path]:
    """The packages for `arch` as archives for a dom0 image."""
    return [layers.of_package(deb) for deb in build(arch)]


def build_depends(control: str) -> tuple[str, ...]:
    """The packages in the Build-Depends fields of a debian/control: first alternatives, without versions."""
    source = control.split("\n\n")[0]
    fields = re.findall(r"^Build-Depends(?:-Arch|-Indep)?:((?:.*\n?)(?:[ \t].*\n?)*)", source, re.MULTILINE)
    names = [re.split(r"[\s|:(\[<]", entry.strip())[0] for field in fields for entry in field.split(",")]
    # debhelper-compat is a name that debhelper provides.
    return tuple(sorted({"debhelper" if name == "debhelper-compat" else name for name in names if name}))


def sources() -> list[Path]:
    """The files that the package is made from, relative to the checkout."""
    listed = host.call(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=host.CHECKOUT
    )
    names = sorted(
        name for name in set(listed.split("\0")) if name and not name.startswith(config.NOT_PACKAGED)
    )
    return [Path(name) for name in names if (host.CHECKOUT / name).is_file()]


def fingerprint(paths: list[Path]) -> object:
    """What changes when one of the files does."""
    return [(path, _mode(path), cache.key((host.CHECKOUT / path).read_bytes())) for path in paths]


def copy(paths: list[Path], into: Path) -> None:
    """Copy files of the checkout into the directory `into`."""
    for path in paths:
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(host.CHECKOUT / path, target)


def _mode(path: Path) -> int:
    return (host.CHECKOUT / path).stat().st_mode & 0o111
