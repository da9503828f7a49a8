# SPDX-License-Identifier: MIT
"""CPython for a machine or a C library that Debian has no packages for: cross-built from Debian's sources."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lab import apt, cache, host

SUITE = "bookworm"
# Debian's names of the sources. To build Python takes a Python of the same minor version: that of SUITE.
PYTHON, ZLIB, LIBFFI, XZ = "python3.11", "zlib", "libffi", "xz-utils"
# Fixes of a deadlock at the end of Python 3.11.2 (CPython's gh-102126) and of a crash (gh-106092).
PATCHES = {PYTHON: ("shutdown-deadlock.diff", "frame_dealloc-crash.diff")}
BUILD_PYTHON = "/usr/bin/python3.11"
BUILD_TRIPLET = "x86_64-linux-gnu"

# Answers that configure would get by running a program, and options for a Python that only runs tests.
ANSWERS = (
    "ac_cv_file__dev_ptmx=yes",
    "ac_cv_file__dev_ptc=no",
    "ac_cv_buggy_getaddrinfo=no",
    "ac_cv_working_tzset=yes",
)
OPTIONS = (
    "--without-ensurepip",
    "--without-static-libpython",
    "--disable-test-modules",
    "OPT=-DNDEBUG -O2 -fwrapv",
    "READELF=/usr/bin/readelf",
)
# Options of libffi and liblzma; either ignores those of the other. musl-gcc has no headers of Linux, which
# libffi's trampolines need.
LIBRARY_OPTIONS = (
    "--disable-shared",
    "--with-pic",
    "--disable-docs",
    "--disable-exec-static-tramp",
    "--disable-nls",
    "--disable-xz",
)
# These files take the C library from the machine that builds, and from the name that the compiler gives its
# machine, which is glibc's even when Debian's GCC compiles for musl.
FIXES = ('s/case "$build_os" in/case "$host_os" in/', "s/-print-multiarch/-print-nothing/")
FIXED = ("configure", "setup.py")
RECIPE = Path(__file__).read_text()


def build(triplet: str) -> Path:
    """The prefix (with bin, include, lib) of a CPython for the machine for which `triplet` compiles."""

    def make(into: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="pyxc-cpython-") as scratch:
            sources = {name: _source(name, Path(scratch)) for name in (PYTHON, ZLIB, LIBFFI, XZ)}
            libraries = Path(scratch) / "libraries"
            _build_libraries(triplet, sources, libraries)
            _build_python(triplet, sources[PYTHON], libraries, into)

    return cache.entry(f"cpython-{triplet}", (triplet, apt.mirror(), RECIPE), make)


def _source(name: str, scratch: Path) -> Path:
    directory = scratch / name
    directory.mkdir()
    apt.fetch_upstream(SUITE, name, directory, PATCHES.get(name, ()))
    return directory


def _build_libraries(triplet: str, sources: dict[str, Path], prefix: Path) -> None:
    """Build zlib, libffi and liblzma, static, below `prefix`."""
    host.call(
        ["./configure", "--static", f"--prefix={prefix}"],
        cwd=sources[ZLIB],
        environment={"CHOST": triplet, "CFLAGS": "-O2 -fPIC"},
    )
    for name in (LIBFFI, XZ):
        host.call(
            ["./configure", f"--host={triplet}", *LIBRARY_OPTIONS, f"--prefix={prefix}"], cwd=sources[name]
        )
    for name in (ZLIB, LIBFFI, XZ):
        host.call(_make("install"), cwd=sources[name])


def _build_python(triplet: str, source: Path, libraries: Path, into: Path) -> None:
    host.call(["sed", "-i", *(f"-e{fix}" for fix in FIXES), *FIXED], cwd=source)
    host.call(
        [
            "./configure",
            f"--host={triplet}",
            f"--build={BUILD_TRIPLET}",
            f"--prefix={into}",
            f"--with-build-python={BUILD_PYTHON}",
            *ANSWERS,
            *OPTIONS,
        ],
        cwd=source,
        environment={
            "CPPFLAGS": f"-I{libraries}/include",
            "LDFLAGS": f"-L{libraries}/lib",
            "PKG_CONFIG_LIBDIR": f"{libraries}/lib/pkgconfig",
        },
    )
    host.call(_make(), cwd=source)
    host.call(_make("install"), cwd=source)


def _make(*goals: str) -> list[str]:
    return ["nice", "make", "-s", f"-j{os.cpu_count()}", *goals]
