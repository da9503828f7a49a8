# SPDX-License-Identifier: MIT
"""Builds the native core, its C made from the .pyx at every build. Everything else is in pyproject.toml."""

from glob import glob

from setuptools import Extension, setup

setup(
    license="MIT",
    ext_modules=[
        Extension(
            "pyxc._core",
            sources=["pyxc/_core.pyx"],
            depends=[*glob("pyxc/core/*.pxi"), "pyxc/gate.h", "pyxc/interpreter.h", "pyxc/ioctls.h"],
            include_dirs=["pyxc"],
            define_macros=[("_FILE_OFFSET_BITS", "64"), ("_GNU_SOURCE", None)],
        )
    ],
)
